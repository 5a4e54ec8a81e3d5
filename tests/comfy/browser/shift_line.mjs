// The shift line of a Prepare Avatar node, used as a person would use it: dragged, moved by keys, followed when typed.
import { settled } from "./page.mjs";

const SLIDER = ".musetalk-shift-slider";

/** Puts one Prepare Avatar node into the middle of the view; returns its id. */
export async function addPrepareAvatar(page, size = [380, 760]) {
  const id = await page.evaluate((size) => {
    const { app, LiteGraph } = window;
    app.graph.clear();
    const node = LiteGraph.createNode("MuseTalkPrepareAvatar");
    app.graph.add(node);
    node.pos = [120, 60];
    node.setSize(size);
    app.canvas.ds.scale = 1;
    app.canvas.ds.offset = [80, 40];
    app.canvas.setDirty(true, true);
    return String(node.id);
  }, size);
  await settled(page, 800);
  return id;
}

/** Tells the page that the node ran, as the server's message does. */
export async function report(page, id, boxes) {
  await page.evaluate(
    ([id, boxes]) => {
      const detail = { node: id, display_node: id, prompt_id: "test", output: { musetalk_boxes: boxes } };
      window.comfyAPI.api.api.dispatchCustomEvent("executed", detail);
    },
    [id, boxes],
  );
  await settled(page, 800);
}

/** What the widget, the prompt and the line say; all must agree. */
export async function shiftNow(page, id) {
  return page.evaluate(
    async ([id, selector]) => {
      const { app } = window;
      const node = app.graph.getNodeById(id) ?? app.graph.getNodeById(Number(id));
      const { output, workflow } = await app.graphToPrompt();
      const stored = workflow.nodes.find((other) => String(other.id) === id);
      return {
        widget: node.widgets.find(({ name }) => name === "bbox_shift").value,
        prompt: output[id]?.inputs.bbox_shift,
        line: Number(document.querySelector(selector)?.getAttribute("aria-valuenow")),
        promptInputs: Object.keys(output[id]?.inputs ?? {}),
        storedValues: stored.widgets_values.length,
      };
    },
    [id, SLIDER],
  );
}

async function lineCentre(page) {
  const box = await page.locator(`${SLIDER} .musetalk-shift-line`).boundingBox();
  return { x: box.x + box.width / 2, y: box.y + box.height / 2 };
}

/** Drags the line down by `pixels` of the screen. */
export async function drag(page, pixels) {
  const { x, y } = await lineCentre(page);
  await page.mouse.move(x, y);
  await page.mouse.down();
  for (let step = 1; step <= 4; step++) await page.mouse.move(x, y + (pixels * step) / 4);
  await page.mouse.up();
  await settled(page, 150);
}

export async function press(page, key) {
  await page.locator(SLIDER).focus();
  await page.keyboard.press(key);
  await settled(page, 100);
}

/** Types a number into the widget: into the field of a Vue node, or as the canvas does it for a classic one. */
export async function typeShift(page, id, value, vue) {
  if (vue) {
    const field = page.locator(`[data-node-id="${id}"] input`).first();
    await field.focus();
    await page.keyboard.press("Control+A");
    await page.keyboard.type(String(value));
    await page.keyboard.press("Enter");
  } else {
    await page.evaluate(
      ([id, value]) => {
        const { app } = window;
        const node = app.graph.getNodeById(id) ?? app.graph.getNodeById(Number(id));
        const widget = node.widgets.find(({ name }) => name === "bbox_shift");
        widget.setValue(value, { e: new PointerEvent("pointerdown"), node, canvas: app.canvas });
      },
      [id, value],
    );
  }
  await settled(page, 200);
}

export async function zoom(page, scale) {
  await page.evaluate((scale) => {
    const { canvas } = window.app;
    canvas.ds.scale = scale;
    canvas.setDirty(true, true);
  }, scale);
  await settled(page, 400);
}

/** Takes back the last change, as Ctrl+Z does. */
export async function undo(page) {
  await page.evaluate(() => window.app.extensionManager.command.execute("Comfy.Undo"));
  await settled(page, 1000);
}

/** Where the node is and how large; a drag of the line must not move it. */
export async function geometry(page, id) {
  return page.evaluate((id) => {
    const node = window.app.graph.getNodeById(id) ?? window.app.graph.getNodeById(Number(id));
    const stage = document.querySelector(".musetalk-shift-stage")?.getBoundingClientRect();
    return { pos: [...node.pos], size: [...node.size], stage: stage ? [stage.width, stage.height] : null };
  }, id);
}

export async function remove(page, id) {
  return page.evaluate((id) => {
    const { graph } = window.app;
    graph.remove(graph.getNodeById(id) ?? graph.getNodeById(Number(id)));
    return new Promise((done) => setTimeout(() => done(document.querySelectorAll(".musetalk-shift").length), 300));
  }, id);
}
