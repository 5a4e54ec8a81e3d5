// The page of live avatars. `?avatar=` chooses one of the list, `?session=` joins a session that runs, and with `?clean=1`
// nothing but its picture is shown, for a virtual camera.
// A token comes by the form, or with a ticket by the address's part after # (#token=..., #ticket=...), which no server
// and no log ever sees. A ticket is good for the session of its link only.
import { LiveClient, Server, ServerError } from "./client.js";
import { piecesOf, RATE } from "./sound.js";

const $ = (id) => document.getElementById(id);
const query = new URLSearchParams(location.search);
const secret = new URLSearchParams(location.hash.slice(1));
const clean = query.get("clean") === "1";
const JOB_POLL = 500;
const RECONNECT = 2000;
const LONGEST_RECONNECT = 30000;
const LINK_SECONDS = 24 * 3600;
const LOG_LINES = 200;
const HINT = 6000;

const given = secret.get("ticket") ?? secret.get("token") ?? sessionStorage.getItem("musetalk.token") ?? "";
const server = new Server(new URL("./", location.href), given);
let config = {};
let starting = false;
let client;
let microphone;
let reconnecting;

if (clean) document.documentElement.classList.add("clean");
if (secret.has("token")) history.replaceState(null, "", location.pathname + location.search);

function note(text, kind = "") {
  const line = document.createElement("p");
  line.textContent = text;
  line.className = kind;
  $("log").append(line);
  while ($("log").childElementCount > LOG_LINES) $("log").firstChild.remove();
  $("log").scrollTop = $("log").scrollHeight;
}

function notice(text) {
  $("notice").textContent = text;
}

/** Runs `work`; a failure is told on the page. */
async function guarded(work) {
  try {
    return await work();
  } catch (error) {
    if (error instanceof ServerError && error.status === 401) $("unlock").hidden = false;
    note(error.message, "error");
    if (!client?.peer) notice(error.message);
    return undefined;
  }
}

function onEvent({ detail: event }) {
  if (event.type === "speaking") $("state").textContent = event.value ? "speaking" : "listening";
  if (event.type === "error") note(event.message, "error");
  if (event.type === "agent" && event.text && event.final) {
    note(`${event.kind === "user_text" ? "You" : "Avatar"}: ${event.text}`, event.kind === "error" ? "error" : "");
  }
  if (event.type === "session" && event.kind === "closed") void stop(event.detail || "The session has ended.");
}

function onState({ detail: state }) {
  $("state").textContent = state === "connected" ? "listening" : state;
  if (state === "connected") notice("");
  if (state === "failed" || state === "disconnected") {
    notice("The connection was lost. Trying again…");
    reconnect(client, RECONNECT);
  }
}

/** Rejoins what was lost, at growing intervals, until it is there, has ended, or was given up. */
function reconnect(lost, delay) {
  clearTimeout(reconnecting);
  reconnecting = setTimeout(async () => {
    if (!lost || lost !== client || lost.peer?.connectionState === "connected") return;
    try {
      await rejoin();
    } catch (error) {
      if (lost !== client) return;
      if (error instanceof ServerError && [401, 403, 404, 410].includes(error.status)) void stop(error.message);
      else reconnect(lost, Math.min(2 * delay, LONGEST_RECONNECT));
    }
  }, delay);
}

function rejoin() {
  return client.watch(microphone ? { microphone, to: config.agent ? "agent" : "avatar" } : {});
}

async function join(session) {
  const { ice_servers: iceServers } = await server.json(`sessions/${encodeURIComponent(session)}`);
  client = new LiveClient(server, session, iceServers);
  client.addEventListener("event", onEvent);
  client.addEventListener("state", onState);
  client.addEventListener("track", ({ detail }) => {
    if ($("video").srcObject !== detail) $("video").srcObject = detail;
    void play();
  });
  notice("Connecting…");
  await client.watch();
  $("controls").disabled = false;
  $("start").textContent = "Stop";
  if (!clean) await makeLink(session);
}

/** The window for a virtual camera opens this session and nothing else. */
async function makeLink(session) {
  const link = new URL(location.pathname, location.href);
  link.search = new URLSearchParams({ clean: "1", session });
  if (config.token) {
    const { ticket } = await server.json(`sessions/${encodeURIComponent(session)}/ticket`, { seconds: LINK_SECONDS });
    link.hash = new URLSearchParams({ ticket });
  }
  $("clean").href = link;
}

async function start() {
  if (starting) return;
  starting = true;
  $("start").disabled = true;
  try {
    const { id } = await server.json("sessions", { avatar: $("avatars").value });
    await join(id);
  } finally {
    starting = false;
    $("start").disabled = false;
  }
}

async function stop(reason = "") {
  const ending = client;
  client = undefined;
  clearTimeout(reconnecting);
  releaseMicrophone();
  $("controls").disabled = true;
  $("start").textContent = "Start";
  $("state").textContent = "idle";
  notice(reason);
  await (clean || query.has("session") ? ending?.leave() : ending?.end());
}

function releaseMicrophone() {
  microphone?.stop();
  microphone = undefined;
  $("microphone").setAttribute("aria-pressed", "false");
}

async function toggleMicrophone() {
  if (microphone) {
    releaseMicrophone();
  } else {
    const constraints = { audio: { echoCancellation: true, noiseSuppression: true } };
    [microphone] = (await navigator.mediaDevices.getUserMedia(constraints)).getAudioTracks();
    $("microphone").setAttribute("aria-pressed", "true");
  }
  await rejoin();
}

function setMuted(muted) {
  $("video").muted = muted;
  $("mute").textContent = muted ? "Muted" : "Sound on";
  $("mute").setAttribute("aria-pressed", String(muted));
}

/** Plays, silent where the browser lets no page sound before it was clicked: a picture must not wait for that. */
async function play() {
  try {
    await $("video").play();
  } catch (error) {
    // Anything else means that another stream has taken this one's place.
    if (error.name !== "NotAllowedError") return;
    setMuted(true);
    void $("video").play().catch(() => undefined);
    $("hint").hidden = false;
    setTimeout(() => ($("hint").hidden = true), HINT);
  }
}

/** The clean view has no button: a click or a key gives it its sound. */
function unmute() {
  if (!clean || !$("video").muted) return;
  $("hint").hidden = true;
  setMuted(false);
  void play();
}

async function listAvatars(chosen) {
  const { avatars } = await server.json("avatars");
  const usable = avatars.filter(({ error }) => !error);
  $("avatars").replaceChildren(
    ...usable.map(({ name, warm }) => new Option(warm ? `${name} (ready)` : name, name)),
  );
  $("start").disabled = usable.length === 0;
  if (usable.length === 0) {
    notice("There is no avatar yet. Add one with a video or a picture of a person.");
    $("add").open = true;
  }
  if (!chosen) return;
  if (usable.some(({ name }) => name === chosen)) $("avatars").value = chosen;
  else notice(missing(chosen, avatars));
}

/** Why an avatar that an address names cannot be chosen. */
function missing(chosen, avatars) {
  const broken = avatars.find(({ name }) => name === chosen);
  const reason = broken ? `The avatar “${chosen}” cannot be read: ${broken.error}` : `There is no avatar “${chosen}” here.`;
  return `${reason} Choose another, or add one.`;
}

async function upload() {
  const [file] = $("footage").files;
  const name = $("name").value;
  if (file.size > config.upload_bytes) throw new Error("The file is too large for this server.");
  $("progress").hidden = false;
  $("progress").removeAttribute("value");
  try {
    const response = await server.request(`avatars?${new URLSearchParams({ name })}`, { method: "POST", body: file });
    let job = await response.json();
    while (job.state === "waiting" || job.state === "running") {
      await new Promise((resolve) => setTimeout(resolve, JOB_POLL));
      job = await server.json(`jobs/${job.id}`);
      if (job.total > 0) $("progress").value = job.done / job.total;
    }
    if (job.state !== "done") throw new Error(job.error ?? `The preparation was ${job.state}.`);
    note(`${name} is ready.`);
    await listAvatars(name);
  } finally {
    $("progress").hidden = true;
  }
}

async function open() {
  config = await server.json("config");
  $("ask").hidden = !config.agent;
  $("speak").hidden = !config.speech;
  $("say").hidden = !config.agent && !config.speech;
  $("unlock").hidden = !config.token || Boolean(server.token);
  if (config.token && !server.token) return notice("This server asks for its token.");
  if (!clean) await listAvatars(query.get("avatar"));
  if (query.has("session")) await join(query.get("session"));
  return undefined;
}

$("unlock").addEventListener("submit", (event) => {
  event.preventDefault();
  server.token = $("token").value.trim();
  sessionStorage.setItem("musetalk.token", server.token);
  $("unlock").hidden = true;
  notice("");
  void guarded(open);
});
$("start").addEventListener("click", () => guarded(() => (client ? stop() : start())));
$("avatars").addEventListener("change", () => client && guarded(() => client.become($("avatars").value)));
$("say").addEventListener("submit", (event) => {
  event.preventDefault();
  void guarded(() => client.say($("text").value, config.speech ? "speech" : "agent"));
});
$("ask").addEventListener("click", () => guarded(() => client.say($("text").value, "agent")));
$("file").addEventListener("change", () => guarded(async () => client.push(await piecesOf($("file").files[0]), RATE)));
$("microphone").addEventListener("click", () => guarded(toggleMicrophone));
$("interrupt").addEventListener("click", () => guarded(() => client.interrupt()));
$("mute").addEventListener("click", () => setMuted(!$("video").muted));
$("full").addEventListener("click", () => $("video").requestFullscreen());
$("upload").addEventListener("submit", (event) => {
  event.preventDefault();
  void guarded(upload);
});
document.addEventListener("click", unmute);
document.addEventListener("keydown", (event) => {
  unmute();
  const typing = event.target.closest?.("input, textarea, select");
  if (event.key === "Escape" && client && !document.fullscreenElement) void guarded(() => client.interrupt());
  if (event.key === "f" && !typing && !event.ctrlKey && !event.metaKey) void $("video").requestFullscreen();
});
addEventListener("pagehide", () => client && !query.has("session") && void client.end());
setInterval(async () => {
  const figures = await client?.figures();
  if (!figures) return;
  $("fps").textContent = figures.fps.toFixed(0);
  $("delay").textContent = figures.delay === undefined ? "–" : `${figures.delay.toFixed(0)} ms`;
}, 1000);

if (clean) setMuted(false);
void guarded(open);
