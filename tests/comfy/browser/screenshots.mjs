// Takes the pictures of docs/screenshots:  node screenshots.mjs URL CLIP VOICE FOLDER
// CLIP and VOICE are files in the server's input folder. Needs what check.mjs needs, and a server with models.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { loadWorkflow, runPrompt, settled, withPage } from "./page.mjs";

const [url, clip, voice, folder] = process.argv.slice(2);
const WORKFLOWS = new URL("../../../workflows/", import.meta.url);
const prompt = (shift) => ({
  1: { class_type: "MuseTalkLoadModels", inputs: {} },
  2: { class_type: "LoadVideo", inputs: { file: clip } },
  3: {
    class_type: "MuseTalkPrepareAvatar",
    inputs: { frames: ["2", 0], vae: ["1", 1], face_models: ["1", 3], bbox_shift: shift },
  },
  4: { class_type: "PreviewImage", inputs: { images: ["3", 1] } },
});

/** Puts the Prepare Avatar node into the middle at a size that shows everything, and takes its picture. */
async function shootNode(page, path, height) {
  await page.evaluate((height) => {
    const { app } = window;
    const node = app.graph.nodes.find(({ type }) => type === "MuseTalkPrepareAvatar");
    for (const other of [...app.graph.nodes]) if (other !== node) other.pos = [-4000, -4000];
    node.pos = [0, 0];
    node.setSize([420, height]);
    Object.assign(app.canvas.ds, { scale: 1, offset: [500, 70] });
    app.canvas.deselectAll?.();
    app.canvas.setDirty(true, true);
  }, height);
  await settled(page, 1500);
  await page.screenshot({ path, clip: { x: 490, y: 30, width: 440, height: height + 55 } });
}

async function fit(page) {
  await page.evaluate(() => window.app.extensionManager.command.execute("Comfy.Canvas.FitView"));
  await settled(page, 1500);
}

for (const vue of [false, true]) {
  await withPage(url, { vue }, async (page) => {
    await runPrompt(page, prompt(2));
    await shootNode(page, join(folder, `shift-line-${vue ? "vue" : "classic"}.png`), vue ? 680 : 900);
  });
}

await withPage(url, { vue: true }, async (page) => {
  const graph = JSON.parse(await readFile(new URL("video_dub.json", WORKFLOWS)));
  for (const node of graph.nodes) {
    if (node.type === "LoadVideo") node.widgets_values[0] = clip;
    if (node.type === "LoadAudio") node.widgets_values[0] = voice;
  }
  await loadWorkflow(page, graph, "video_dub");
  await fit(page);
  await page.screenshot({ path: join(folder, "workflow-video-dub.png") });
});

for (const locale of ["zh", "ja"]) {
  await withPage(url, { vue: true, locale }, async (page) => {
    await runPrompt(page, prompt(2));
    await shootNode(page, join(folder, `prepare-avatar-${locale}.png`), 680);
  });
}
