// Reads a request from stdin, watches a live session on its page, and writes what was seen to stdout; both are JSON.
//   { url, seconds, quiet, code: {cells, side}, mouth: [x, y, width, height], pictures }
// It watches until sound was heard and then none for `quiet` seconds, at most for `seconds`.
// code: black and white squares in a row from the picture's upper left corner, a binary number, lowest digit first.
// mouth: where the lips are in the picture. pictures: a folder for screenshots, or null. Times are seconds of one clock.
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { SOUND_UNASKED, withChromium } from "../../chromium.mjs";

const request = JSON.parse(await text(process.stdin));
const settings = { viewport: { width: 900, height: 560 }, args: [SOUND_UNASKED] };

const seen = await withChromium(settings, async (page) => {
  const errors = [];
  page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
  page.on("pageerror", (error) => errors.push(String(error.stack ?? error)));
  await page.addInitScript(() => {
    window.peers = [];
    window.RTCPeerConnection = class extends RTCPeerConnection {
      constructor(...settings) {
        super(...settings);
        window.peers.push(this);
      }
    };
  });
  await page.goto(request.url);
  await page.waitForFunction(() => document.getElementById("video").currentTime > 0.2, null, { timeout: 30000 });
  await page.getByRole("button", { name: "Muted" }).click();
  const watching = page.evaluate(watch, request);
  if (request.pictures) {
    await page.waitForTimeout(20000);
    for (let number = 1; number <= 6; number++) {
      await page.screenshot({ path: join(request.pictures, `page-${number}.png`) });
      await page.waitForTimeout(300);
    }
  }
  return { ...(await watching), errors };
});
console.log(JSON.stringify(seen));

/** Runs in the page: its pictures, its sound, and what WebRTC says of both. */
async function watch({ seconds, quiet, code, mouth }) {
  const video = document.getElementById("video");
  let end = performance.now() + 1000 * seconds;
  const [frames, sound, stats] = [[], [], []];

  const board = (width, height) => new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  const codeBoard = board(2 * code.cells, 2);
  const mouthBoard = board(16, 12);
  let lips;
  const look = (_, { rtpTimestamp, expectedDisplayTime }) => {
    if (performance.now() < end) video.requestVideoFrameCallback(look);
    codeBoard.drawImage(video, 0, 0, code.cells * code.side, code.side, 0, 0, 2 * code.cells, 2);
    const squares = codeBoard.getImageData(0, 0, 2 * code.cells, 1).data;
    let number = 0;
    for (let cell = 0; cell < code.cells; cell++) number += (squares[8 * cell] > 127) << cell;
    mouthBoard.drawImage(video, ...mouth, 0, 0, 16, 12);
    const last = lips;
    lips = mouthBoard.getImageData(0, 0, 16, 12).data;
    const moved = last ? lips.reduce((sum, value, index) => sum + Math.abs(value - last[index]), 0) / lips.length : 0;
    frames.push({ rtp: rtpTimestamp, number, moved, time: expectedDisplayTime / 1000 });
  };
  video.requestVideoFrameCallback(look);

  const context = new AudioContext();
  const analyser = new AnalyserNode(context, { fftSize: 32768 });
  context.createMediaStreamSource(video.srcObject).connect(analyser);
  const samples = new Float32Array(analyser.fftSize);
  const STEP = 0.005;
  let heard = context.currentTime;
  let loudAt = Infinity;
  /** Adds the level of each 5 ms that have come since the last call, and when they came. */
  const listen = () => {
    const now = context.currentTime;
    const clock = performance.now() / 1000 - now;
    analyser.getFloatTimeDomainData(samples);
    for (; heard + STEP <= now; heard += STEP) {
      const first = Math.max(0, samples.length - Math.round((now - heard) * context.sampleRate));
      const part = samples.subarray(first, first + Math.round(STEP * context.sampleRate));
      const power = part.reduce((sum, value) => sum + value * value, 0) / part.length;
      sound.push({ time: heard + clock, level: Math.sqrt(power) });
      if (power > 1e-4) loudAt = performance.now();
    }
  };

  const measure = async () => {
    const reports = [...(await window.peers.at(-1).getStats()).values()].filter(({ type }) => type === "inbound-rtp");
    const { video, audio } = Object.fromEntries(reports.map((report) => [report.kind, report]));
    stats.push({
      time: performance.now() / 1000,
      decoded: video.framesDecoded,
      energy: audio.totalAudioEnergy,
      video: video.estimatedPlayoutTimestamp ?? null,
      audio: audio.estimatedPlayoutTimestamp ?? null,
    });
  };
  const measuring = setInterval(() => void measure(), 1000);
  while (performance.now() < end) {
    listen();
    if (performance.now() > loudAt + 1000 * quiet) end = 0;
    await new Promise((done) => setTimeout(done, 40));
  }
  clearInterval(measuring);
  await context.close();
  return { frames, sound, stats };
}
