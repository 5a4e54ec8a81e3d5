// Reads a request from stdin, uses the live panel in a browser, and writes what was seen to stdout; both are JSON.
//   { url, vue, prompt, voice, parts, pictures }
// prompt: an API-format prompt with one Live Avatar node, to be run from the page. voice: a sound file on this machine.
// parts: parts of the avatar's picture by name, each [x, y, width, height]. pictures: a folder for screenshots, or null.
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { loadWorkflow, settled, withPage } from "./page.mjs";

const request = JSON.parse(await text(process.stdin));
const WAIT = { timeout: 60000 };
if (request.pictures) await mkdir(request.pictures, { recursive: true });

const seen = await withPage(request.url, { vue: request.vue }, async (page, errors) => {
  const shoot = (name) =>
    request.pictures && page.screenshot({ path: join(request.pictures, `${name}-${request.vue ? "vue" : "classic"}.png`) });
  await loadWorkflow(page, request.prompt, "live");
  await page.evaluate(() => window.app.extensionManager.command.execute("Workspace.ToggleSidebarTab.musetalk-live"));
  const panel = page.locator(".musetalk-live");
  await panel.waitFor(WAIT);
  await page.waitForTimeout(2000);
  const before = { notice: await panel.locator(".musetalk-live-notice").textContent() };
  await shoot("1-empty");

  await page.evaluate(() => void window.app.queuePrompt(0, 1));
  const link = page.locator(".musetalk-live-link a[href]");
  await link.waitFor(WAIT);
  const told = new URL(await link.getAttribute("href"), page.url()).searchParams.get("avatar");
  await page.waitForFunction((name) => document.querySelector(".musetalk-live select").value === name, told, WAIT);
  const ran = { href: await link.getAttribute("href"), avatar: await panel.locator("select").inputValue() };
  await shoot("2-run");

  const start = panel.locator("button.is-primary");
  await start.click();
  await page.waitForFunction(() => document.querySelector(".musetalk-live video").currentTime > 1, null, WAIT);
  const idle = await watch(page, 3000);
  await panel.locator("input[type=file]").setInputFiles(request.voice);
  const watching = watch(page, 4000);
  for (const number of [1, 2, 3]) {
    await page.waitForTimeout(700);
    await shoot(`3-speaking-${number}`);
  }
  const speaking = await watching;
  await panel.getByRole("button", { name: "Interrupt" }).click();
  await page.waitForTimeout(1500);
  const silent = await watch(page, 500);
  await panel.getByRole("button", { name: "Microphone" }).click();
  await page.waitForFunction(() => document.querySelector('.musetalk-live button[aria-pressed="true"]'), null, WAIT);
  await page.waitForTimeout(3000);
  const heard = await watch(page, 3000);

  const clean = await page.context().newPage();
  await clean.goto(await panel.getByRole("link", { name: "virtual camera" }).getAttribute("href"));
  await clean.waitForFunction(() => document.getElementById("video").currentTime > 1, null, WAIT);
  if (request.pictures) await clean.screenshot({ path: join(request.pictures, "4-clean.png") });
  const panelIsHidden = await clean.evaluate(() => getComputedStyle(document.querySelector(".panel")).display === "none");
  await clean.close();

  // Another tab and back: the session goes on, the microphone does not.
  for (let times = 0; times < 2; times++) {
    await page.evaluate(() => window.app.extensionManager.command.execute("Workspace.ToggleSidebarTab.musetalk-live"));
    await settled(page);
  }
  const again = {
    ...(await watch(page, 2000)),
    microphone: await panel.getByRole("button", { name: "Microphone" }).getAttribute("aria-pressed"),
  };
  await start.click();
  await page.waitForFunction(() => !document.querySelector(".musetalk-live video").srcObject, null, WAIT);
  const after = { notice: await panel.locator(".musetalk-live-notice").textContent() };
  await shoot("5-stopped");
  const log = await panel.locator(".musetalk-live-log").textContent();
  // A viewer that leaves is often gone before it says so; the page does not mind, the console does.
  const mistakes = errors.filter((error) => !/404.*\/whep\//.test(error));
  return { before, ran, idle, speaking, silent, heard, panelIsHidden, again, after, log, errors: mistakes };
});
console.log(JSON.stringify(seen));

/**
 * A while of the session: frames a second, the loudest moment, the figures that the panel showed, and how much each of
 * the parts changed from picture to picture, on average, in levels of 0 to 255.
 */
async function watch(page, milliseconds) {
  const seen = await page.evaluate(
    async ([milliseconds, parts]) => {
      const video = document.querySelector(".musetalk-live video");
      const context = new AudioContext();
      const analyser = context.createAnalyser();
      context.createMediaStreamSource(video.srcObject).connect(analyser);
      const samples = new Float32Array(analyser.fftSize);
      const frames = () => video.getVideoPlaybackQuality().totalVideoFrames;
      const [first, began] = [frames(), performance.now()];
      const end = began + milliseconds;

      const board = new OffscreenCanvas(32, 32).getContext("2d", { willReadFrequently: true });
      const [changes, last] = [{}, {}];
      for (const name of Object.keys(parts)) changes[name] = [];
      const look = () => {
        if (performance.now() < end) video.requestVideoFrameCallback(look);
        for (const [name, part] of Object.entries(parts)) {
          board.drawImage(video, ...part, 0, 0, 32, 32);
          const { data } = board.getImageData(0, 0, 32, 32);
          const change = last[name] && data.reduce((sum, value, at) => sum + Math.abs(value - last[name][at]), 0);
          // Of four values one is opacity, which is always the same.
          if (last[name]) changes[name].push(change / (0.75 * data.length));
          last[name] = data;
        }
      };
      video.requestVideoFrameCallback(look);

      let level = 0;
      const states = new Set();
      while (performance.now() < end) {
        await new Promise((done) => setTimeout(done, 20));
        analyser.getFloatTimeDomainData(samples);
        level = Math.max(level, ...samples.map(Math.abs));
        states.add(document.querySelector(".musetalk-live dl").lastChild.textContent);
      }
      await context.close();
      const fps = (1000 * (frames() - first)) / (performance.now() - began);
      const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
      const changed = Object.fromEntries(Object.entries(changes).map(([name, values]) => [name, mean(values)]));
      return { fps, level, changed, states: [...states] };
    },
    [milliseconds, request.parts],
  );
  return { ...seen, figures: await page.locator(".musetalk-live dd").allTextContents() };
}
