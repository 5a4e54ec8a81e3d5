import { buildView } from "./live_view.js";

const RECONNECT = 2000;
const FIGURES = 1000;
const LOG_LINES = 100;
const TOKEN = "musetalk.token";
// How long the full-screen link is good for; it opens this session and nothing else.
const LINK_SECONDS = 24 * 60 * 60;

/**
 * The side panel: one live session, watched and driven.
 *
 * What talks to the server is the page's own code, which the server hands out: panel and page cannot differ in it.
 */
export class LivePanel {
  /** @type {HTMLElement} */
  element;

  #messages;
  #api;
  #page;
  #view;
  #code;
  #server;
  #config = {};
  #client;
  #microphone;
  /** Chosen from outside, and not in the list yet. */
  #wanted;

  /**
   * @param {object} settings
   * @param {object} settings.messages   see live_messages.js
   * @param {URL} settings.api           of the live server's routes, with a slash at the end
   * @param {URL} settings.page          of the live server's page
   */
  constructor({ messages, api, page }) {
    this.#messages = messages;
    this.#api = api;
    this.#page = page;
    this.#view = buildView(messages);
    this.element = this.#view.root;
    this.#view.page.href = page.href;
    this.#listen();
    setInterval(() => void this.#showFigures(), FIGURES);
    addEventListener("pagehide", () => void this.#client?.end());
  }

  /** The panel is on screen (again): its list is brought up to date, and its picture moves on. */
  show() {
    if (this.#client) void this.#view.video.play().catch(() => undefined);
    void this.#guarded(() => this.#open());
  }

  /** The panel leaves the screen. The session goes on, but nobody is listened to unseen. */
  hide() {
    if (this.#microphone) void this.#guarded(() => this.#toggleMicrophone());
  }

  /** Chooses an avatar of the list. */
  choose(avatar) {
    return this.#guarded(async () => {
      this.#wanted = avatar;
      await this.#open();
      if (this.#client) await this.#client.become(avatar);
    });
  }

  #listen() {
    const view = this.#view;
    const on = (element, event, work) =>
      element.addEventListener(event, (happened) => {
        happened.preventDefault();
        void this.#guarded(work);
      });
    on(view.refresh, "click", () => this.#open());
    on(view.start, "click", () => (this.#client ? this.#stop() : this.#start()));
    on(view.avatars, "change", () => {
      this.#wanted = undefined;
      return this.#client?.become(view.avatars.value);
    });
    on(view.say, "submit", () => this.#client.say(view.text.value, this.#config.speech ? "speech" : "agent"));
    on(view.ask, "click", () => this.#client.say(view.text.value, "agent"));
    on(view.file, "change", () => this.#play(view.file.files[0]));
    on(view.microphone, "click", () => this.#toggleMicrophone());
    on(view.interrupt, "click", () => this.#client.interrupt());
    on(view.sound, "click", () => this.#setSound(view.video.muted));
    on(view.unlock, "submit", () => {
      sessionStorage.setItem(TOKEN, view.token.value.trim());
      return this.#open();
    });
    // ComfyUI's shortcuts are not for what is typed here.
    for (const event of ["keydown", "keyup", "paste", "copy"]) {
      view.root.addEventListener(event, (typed) => typed.stopPropagation());
    }
  }

  /** Learns what the server has, and fills the list. */
  async #open() {
    const view = this.#view;
    if (!this.#code) {
      const answer = await fetch(new URL("config", this.#api));
      if (answer.status === 404) return this.#say(this.#messages.missing);
      const load = (name) => import(new URL(`page/${name}`, this.#api).href);
      const [client, sound] = answer.ok ? await Promise.all([load("client.js"), load("sound.js")]) : [];
      if (!client) throw new Error((await answer.json().catch(() => ({}))).error?.message ?? answer.statusText);
      this.#code = { ...client, ...sound };
    }
    const token = sessionStorage.getItem(TOKEN) ?? "";
    if (this.#server?.token !== token) this.#server = new this.#code.Server(this.#api, token);
    this.#config = await this.#server.json("config");
    view.unlock.hidden = !this.#config.token || Boolean(token);
    if (!view.unlock.hidden) return undefined;
    view.speak.hidden = !this.#config.speech;
    view.ask.hidden = !this.#config.agent;
    view.text.disabled = !this.#config.speech && !this.#config.agent;
    view.noVoice.hidden = !view.text.disabled;
    const { avatars } = await this.#server.json("avatars");
    const usable = avatars.filter(({ error }) => !error);
    const chosen = this.#wanted ?? view.avatars.value;
    view.avatars.replaceChildren(
      ...usable.map(({ name, warm }) => new Option(warm ? this.#messages.ready(name) : name, name)),
    );
    if (usable.some(({ name }) => name === chosen)) {
      view.avatars.value = chosen;
      this.#wanted = undefined;
    }
    view.start.disabled = usable.length === 0;
    if (!this.#client) this.#say(usable.length === 0 ? this.#messages.none : this.#messages.choose);
    return undefined;
  }

  async #start() {
    const { id } = await this.#server.json("sessions", { avatar: this.#wanted ?? this.#view.avatars.value });
    const client = (this.#client = new this.#code.LiveClient(this.#server, id, this.#config.ice_servers));
    client.addEventListener("event", ({ detail }) => this.#onEvent(detail));
    client.addEventListener("state", ({ detail }) => this.#onState(client, detail));
    client.addEventListener("track", ({ detail }) => this.#onTrack(detail));
    this.#say(this.#messages.connecting);
    this.#view.start.textContent = this.#messages.stop;
    this.#view.controls.disabled = false;
    const clean = new URL(this.#page);
    clean.search = new URLSearchParams({ clean: "1", session: id });
    if (this.#config.token) {
      const ask = `sessions/${encodeURIComponent(id)}/ticket`;
      const { ticket } = await this.#server.json(ask, { seconds: LINK_SECONDS });
      clean.hash = new URLSearchParams({ ticket });
    }
    this.#view.clean.href = clean.href;
    try {
      await client.watch();
    } catch (error) {
      await this.#stop(error.message);
    }
  }

  async #stop(reason = this.#messages.choose) {
    const ending = this.#client;
    this.#client = undefined;
    this.#releaseMicrophone();
    this.#view.video.srcObject = null;
    this.#view.start.textContent = this.#messages.start;
    this.#view.controls.disabled = true;
    for (const name of ["fps", "delay"]) this.#view[name].textContent = "–";
    this.#view.state.textContent = this.#messages.idle;
    this.#say(reason);
    await ending?.end();
  }

  #onEvent(event) {
    const { state } = this.#view;
    if (event.type === "speaking") state.textContent = this.#messages[event.value ? "speaking" : "listening"];
    if (event.type === "error") this.#log(event.message, "is-error");
    if (event.type === "agent" && event.text && event.final) this.#log(event.text);
    if (event.type === "session" && event.kind === "closed") void this.#stop(event.detail || this.#messages.ended);
  }

  #onState(client, state) {
    if (client !== this.#client) return;
    if (state === "connected") {
      this.#view.state.textContent = this.#messages.listening;
      this.#say("");
    } else if (state === "failed" || state === "disconnected") {
      this.#say(this.#messages.lost);
      setTimeout(() => {
        const isLost = client === this.#client && client.peer?.connectionState !== "connected";
        if (isLost) void this.#guarded(() => this.#watch());
      }, RECONNECT);
    }
  }

  #onTrack(stream) {
    const { video } = this.#view;
    if (video.srcObject !== stream) video.srcObject = stream;
    void video.play().catch(() => undefined);
  }

  #watch() {
    const to = this.#config.agent ? "agent" : "avatar";
    return this.#client.watch(this.#microphone ? { microphone: this.#microphone, to } : {});
  }

  async #play(file) {
    if (file) await this.#client.push(await this.#code.piecesOf(file), this.#code.RATE);
  }

  async #toggleMicrophone() {
    if (this.#microphone) {
      this.#releaseMicrophone();
    } else {
      const constraints = { audio: { echoCancellation: true, noiseSuppression: true } };
      [this.#microphone] = (await navigator.mediaDevices.getUserMedia(constraints)).getAudioTracks();
      this.#view.microphone.ariaPressed = "true";
    }
    if (this.#client) await this.#watch();
  }

  #releaseMicrophone() {
    this.#microphone?.stop();
    this.#microphone = undefined;
    this.#view.microphone.ariaPressed = "false";
  }

  #setSound(isOn) {
    this.#view.video.muted = !isOn;
    this.#view.sound.ariaPressed = String(isOn);
  }

  async #showFigures() {
    const figures = await this.#client?.figures();
    if (!figures) return;
    this.#view.fps.textContent = figures.fps.toFixed(0);
    this.#view.delay.textContent = figures.delay === undefined ? "–" : `${figures.delay.toFixed(0)} ms`;
  }

  #say(text) {
    this.#view.notice.textContent = text;
  }

  #log(text, className = "") {
    const line = Object.assign(document.createElement("p"), { textContent: text, className });
    this.#view.log.append(line);
    while (this.#view.log.childElementCount > LOG_LINES) this.#view.log.firstChild.remove();
    this.#view.log.scrollTop = this.#view.log.scrollHeight;
  }

  /** Runs `work`; a failure is told in the panel. */
  async #guarded(work) {
    try {
      return await work();
    } catch (error) {
      if (error.status === 401) {
        sessionStorage.removeItem(TOKEN);
        this.#view.unlock.hidden = false;
      }
      if (this.#client) this.#log(error.message, "is-error");
      else this.#say(error.message);
      return undefined;
    }
  }
}
