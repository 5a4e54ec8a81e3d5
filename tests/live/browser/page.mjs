// Reads a request from stdin, opens the live page in the ways its addresses offer, and writes what was seen to stdout;
// both are JSON.
//   { url, avatar, pictures }
// avatar: one that is there. pictures: a folder for screenshots, or null.
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { withChromium } from "../../chromium.mjs";

const { url, avatar, pictures } = JSON.parse(await text(process.stdin));
const WAIT = { timeout: 30000 };
const playing = () => document.getElementById("video").currentTime > 1;

// No SOUND_UNASKED: as people have it.
const seen = await withChromium({ viewport: { width: 900, height: 700 } }, async (page) => {
  const errors = [];
  const heed = (page) => page.on("pageerror", (error) => errors.push(String(error.stack ?? error)));
  heed(page);
  const shoot = (page, name) => pictures && page.screenshot({ path: join(pictures, `${name}.png`) });
  const look = () =>
    page.evaluate(() => ({
      chosen: document.getElementById("avatars").value,
      notice: document.getElementById("notice").textContent,
      startable: !document.getElementById("start").disabled,
    }));
  const opened = async (search) => {
    await page.goto(`${url}/?${search}`);
    await page.waitForFunction(() => document.getElementById("avatars").options.length > 0, null, WAIT);
    return look();
  };

  const unknown = await opened("avatar=%3Cb%3Enobody");
  await shoot(page, "unknown");
  const known = await opened(`avatar=${avatar}`);
  await page.getByRole("button", { name: "Start" }).click();
  await page.waitForFunction(playing, null, WAIT);

  const link = await page.getByRole("link", { name: "virtual camera" }).getAttribute("href");
  const clean = await page.context().newPage();
  heed(clean);
  // A script that is run in a page counts as a click there, so the page itself has to tell.
  await clean.addInitScript(() => {
    const visible = (element) => element.checkVisibility() && element.textContent.trim() !== "";
    setInterval(() => {
      const video = document.getElementById("video");
      const texts = [...document.querySelectorAll("p, button, dl, a, h1, label")].filter(visible);
      const told = { time: video.currentTime, muted: video.muted, paused: video.paused };
      console.log(JSON.stringify({ ...told, texts: texts.map((element) => element.textContent.trim()) }));
    }, 100);
  });
  let now = {};
  clean.on("console", (message) => message.type() === "log" && (now = JSON.parse(message.text())));
  const until = async (what) => {
    for (const end = Date.now() + WAIT.timeout; !what(now); ) {
      if (Date.now() > end) throw new Error(`the clean view stays at ${JSON.stringify(now)}`);
      await clean.waitForTimeout(50);
    }
    return now;
  };
  await clean.goto(link);
  const untouched = await until(({ time }) => time > 1);
  await shoot(clean, "clean-hint");
  const later = await until(({ texts }) => texts.length === 0);
  await shoot(clean, "clean");
  await clean.mouse.click(300, 300);
  const clicked = await until(({ muted }) => !muted);
  const on = await until(({ time }) => time > clicked.time + 0.5);
  return { unknown, known, clean: { untouched, later, on }, errors };
});
console.log(JSON.stringify(seen));
