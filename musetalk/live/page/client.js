// One live session as a browser sees it: HTTP, WebRTC and the data channel. No page elements here.

/** How long ICE candidates are waited for, in milliseconds: an offer goes out whole. */
const GATHERING = 1500;

export class ServerError extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** The server's routes. `base` is the page's own address, `token` what opens a server that has one. */
export class Server {
  constructor(base, token = "") {
    this.base = base;
    this.token = token;
  }

  async request(path, { ticket, headers = {}, ...options } = {}) {
    const credential = ticket ?? this.token;
    if (credential) headers.Authorization = `Bearer ${credential}`;
    const response = await fetch(new URL(path, this.base), { ...options, headers });
    if (response.ok) return response;
    const { error } = await response.json().catch(() => ({}));
    throw new ServerError(response.status, error?.code ?? "failed", error?.message ?? response.statusText);
  }

  async json(path, body, options = {}) {
    if (body !== undefined) {
      options = { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" }, ...options };
    }
    const response = await this.request(path, options);
    return response.status === 204 ? undefined : response.json();
  }
}

/** A session that is watched, and perhaps driven. Dispatches "event" (detail: the server's), "track" and "state". */
export class LiveClient extends EventTarget {
  constructor(server, session, iceServers = []) {
    super();
    this.server = server;
    this.session = session;
    this.iceServers = iceServers;
    this.stream = new MediaStream();
    this.viewer = "";
    this.generation = 0;
  }

  get path() {
    return `sessions/${encodeURIComponent(this.session)}`;
  }

  /** Connects. microphone: a MediaStreamTrack to send, or none; to: who hears it, "agent" or "avatar". */
  async watch({ microphone, to } = {}) {
    await this.leave();
    const peer = (this.peer = new RTCPeerConnection({ iceServers: this.iceServers }));
    peer.addTransceiver("video", { direction: "recvonly" });
    if (microphone) peer.addTrack(microphone, new MediaStream([microphone]));
    else peer.addTransceiver("audio", { direction: "recvonly" });
    this.channel = peer.createDataChannel("musetalk");
    this.channel.onmessage = ({ data }) => this.tell("event", JSON.parse(data));
    peer.ontrack = ({ track }) => {
      for (const old of this.stream.getTracks().filter(({ kind }) => kind === track.kind)) this.stream.removeTrack(old);
      this.stream.addTrack(track);
      this.tell("track", this.stream);
    };
    peer.onconnectionstatechange = () => peer === this.peer && this.tell("state", peer.connectionState);
    await peer.setLocalDescription();
    await gathered(peer);
    const response = await this.server.request(`${this.path}/whep${microphone ? `?microphone=${to}` : ""}`, {
      method: "POST",
      body: peer.localDescription.sdp,
      headers: { "Content-Type": "application/sdp" },
    });
    this.viewer = response.headers.get("Location") ?? "";
    await peer.setRemoteDescription({ type: "answer", sdp: await response.text() });
  }

  /** Sends sound: Int16Array pieces at `rate`, each waiting until the avatar has room for it, until interrupted. */
  async push(pieces, rate) {
    const generation = (this.generation += 1);
    for (const pcm of pieces) {
      const response = await this.server.request(`${this.path}/audio?rate=${rate}`, { method: "POST", body: pcm });
      const { segment } = await response.json();
      // Interrupted, or another file is under way: the rest of this one is not wanted.
      if (segment === -1 || generation !== this.generation) return;
    }
    await this.server.json(`${this.path}/end`, {});
  }

  say(text, to) {
    return this.server.json(`${this.path}/text`, { text, to });
  }

  interrupt() {
    this.generation += 1;
    return this.server.json(`${this.path}/clear`, {});
  }

  become(avatar) {
    return this.server.json(`${this.path}/avatar`, { id: avatar });
  }

  /** Frames per second and milliseconds between network and picture, of the time since the last call. */
  async figures() {
    const video = [...((await this.peer?.getStats()) ?? new Map()).values()].find(
      ({ type, kind }) => type === "inbound-rtp" && kind === "video",
    );
    const last = this.last ?? {};
    this.last = video;
    if (!video || !last.timestamp) return undefined;
    const shown = video.framesDecoded - last.framesDecoded;
    const emitted = video.jitterBufferEmittedCount - last.jitterBufferEmittedCount;
    return {
      fps: (1000 * shown) / (video.timestamp - last.timestamp),
      delay: emitted > 0 ? (1000 * (video.jitterBufferDelay - last.jitterBufferDelay)) / emitted : undefined,
    };
  }

  async leave() {
    const { peer, viewer } = this;
    this.peer = undefined;
    this.viewer = "";
    this.last = undefined;
    peer?.close();
    if (viewer) await this.server.request(viewer, { method: "DELETE" }).catch(() => undefined);
  }

  async end() {
    // First: a page that is going away gets to send no more than what it sends at once.
    const ended = this.server.request(this.path, { method: "DELETE", keepalive: true }).catch(() => undefined);
    this.generation += 1;
    this.viewer = "";
    await Promise.all([ended, this.leave()]);
  }

  tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}

/** Resolves when the peer knows its addresses, or has looked for long enough. */
function gathered(peer) {
  if (peer.iceGatheringState === "complete") return Promise.resolve();
  return new Promise((resolve) => {
    setTimeout(resolve, GATHERING);
    peer.addEventListener("icegatheringstatechange", () => peer.iceGatheringState === "complete" && resolve());
  });
}
