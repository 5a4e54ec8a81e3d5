// A headless Chromium for the tests. Needs the paths PLAYWRIGHT_CORE (npm package) and CHROMIUM (program).
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

/** Lets pages sound before anybody has clicked, which Chromium does not by default. */
export const SOUND_UNASKED = "--autoplay-policy=no-user-gesture-required";

const ARGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  // A microphone that beeps, without asking.
  "--use-fake-device-for-media-stream",
  "--use-fake-ui-for-media-stream",
];

/** Starts a Chromium with an empty profile and more `args`, gives its page to `work`, and ends it. */
export async function withChromium({ viewport, args = [] }, work) {
  const { chromium } = await import(pathToFileURL(join(process.env.PLAYWRIGHT_CORE, "index.mjs")).href);
  const profile = await mkdtemp(join(tmpdir(), "musetalk-browser-"));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.CHROMIUM,
    headless: true,
    viewport,
    args: [...ARGS, ...args],
  });
  try {
    return await work(context.pages()[0] ?? (await context.newPage()));
  } finally {
    await context.close();
    await rm(profile, { recursive: true, force: true });
  }
}
