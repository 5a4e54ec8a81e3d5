// Sound of a file as the server takes it: mono, signed 16 bit little endian, in pieces.

export const RATE = 24000;
const PIECE_SECONDS = 2;

/** The sound of a file the browser can decode, as Int16Array pieces at RATE. */
export async function piecesOf(file) {
  const context = new OfflineAudioContext(1, 1, RATE);
  const sound = await context.decodeAudioData(await file.arrayBuffer());
  const mixer = new OfflineAudioContext(1, Math.max(1, sound.length), RATE);
  const source = new AudioBufferSourceNode(mixer, { buffer: sound });
  source.connect(mixer.destination);
  source.start();
  const samples = (await mixer.startRendering()).getChannelData(0);
  const pcm = Int16Array.from(samples, (value) => Math.round(Math.max(-1, Math.min(1, value)) * 32767));
  const size = RATE * PIECE_SECONDS;
  return Array.from({ length: Math.ceil(pcm.length / size) }, (_, index) => pcm.slice(index * size, (index + 1) * size));
}
