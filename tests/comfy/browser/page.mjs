// ComfyUI's page in a headless Chromium.
import { SOUND_UNASKED, withChromium } from "../../chromium.mjs";

// What ComfyUI's page says by itself on a fresh server without internet: files that a new user does not have yet,
// Comfy's online services, and (frontend 1.49) a panel that asks for the graph before there is one.
const HARMLESS_URL = /user\.css|comfy\.templates\.json|\/userdata|comfy\.org|googletagmanager|sentry|posthog|firebase/i;
const HARMLESS_TEXT = /ERR_(INTERNET|NAME|PROXY|CONNECTION)|firebase|graph accessed before init/i;

/**
 * Opens the page at `url` with classic or Vue nodes, gives it to `work`, and closes it.
 * `work(page, errors)`: `errors` collects the console's errors and what was thrown, without the harmless ones.
 */
export async function withPage(url, { vue, locale = "en" }, work) {
  await change(url, { "Comfy.TutorialCompleted": true, "Comfy.VueNodes.Enabled": vue, "Comfy.Locale": locale });
  const settings = { viewport: { width: 1600, height: 1300 }, args: [SOUND_UNASKED] };
  return withChromium(settings, async (page) => {
    const errors = [];
    page.on("console", (message) => {
      const isHarmless = HARMLESS_URL.test(message.location().url) || HARMLESS_TEXT.test(message.text());
      if (message.type() === "error" && !isHarmless) errors.push(`${message.text()} (${message.location().url})`);
      if (message.type() === "warning" && message.text().includes("[MuseTalk")) errors.push(message.text());
    });
    page.on("pageerror", (error) => errors.push(String(error.stack ?? error)));
    await page.goto(url, { waitUntil: "domcontentloaded" });
    // Until the first workflow is open, whatever is put on the canvas would be replaced by it.
    await page.waitForFunction(() => window.app?.extensionManager?.workflow?.activeWorkflow, null, { timeout: 60000 });
    await settled(page, 1000);
    await page.keyboard.press("Escape");
    return work(page, errors);
  });
}

/** Settings live on the server; a page reads them when it opens. */
async function change(url, settings) {
  const answer = await fetch(`${url}/settings`, { method: "POST", body: JSON.stringify(settings) });
  if (!answer.ok) throw new Error(`settings not accepted: ${answer.status}`);
}

/** Waits until the page has drawn what it was told. */
export async function settled(page, milliseconds = 400) {
  await page.waitForTimeout(milliseconds);
  await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
}

/** Loads a workflow (UI or API format) and tells what became of it. */
export async function loadWorkflow(page, workflow, name) {
  const opened = await page.evaluate(
    async ([workflow, name]) => {
      const { app } = window;
      if (workflow.nodes) await app.loadGraphData(workflow);
      else await app.loadApiJson(workflow, name);
      const known = window.LiteGraph.registered_node_types;
      const nodes = [app.graph, ...(app.graph.subgraphs?.values() ?? [])].flatMap((graph) => [...graph.nodes]);
      const inner = new Set([...(app.graph.subgraphs?.keys() ?? [])]);
      const prompt = await app.graphToPrompt();
      return {
        types: nodes.map(({ type }) => type),
        missing: nodes.map(({ type }) => type).filter((type) => !known[type] && !inner.has(type)),
        prompt: prompt.output,
      };
    },
    [workflow, name],
  );
  await settled(page);
  return opened;
}

/**
 * Makes one node of each type whose name starts with `prefix`, wires what fits, saves the graph and opens it again.
 * Tells the types, and the widgets and links of the graph before and after.
 */
export async function roundTrip(page, prefix) {
  const result = await page.evaluate(async (prefix) => {
    const { app, LiteGraph } = window;
    app.graph.clear();
    const types = Object.keys(LiteGraph.registered_node_types).filter((type) => type.startsWith(prefix));
    const nodes = types.map((type) => LiteGraph.createNode(type));
    nodes.forEach((node, index) => {
      node.pos = [(index % 5) * 420, Math.floor(index / 5) * 620];
      app.graph.add(node);
    });
    for (const source of nodes)
      for (const target of nodes)
        source.outputs.forEach((output, from) =>
          target.inputs.forEach((input, to) => {
            if (source !== target && !input.widget && input.type === output.type && input.link == null)
              source.connect(from, target, to);
          }),
        );
    const describe = (graph) => ({
      widgets: graph.nodes.map((node) => [node.type, node.widgets_values ?? null]),
      links: graph.links.map(([, from, output, to, input, type]) => [from, output, to, input, type]),
    });
    const saved = app.graph.serialize();
    await app.loadGraphData(structuredClone(saved));
    return { types, before: describe(saved), after: describe(app.graph.serialize()) };
  }, prefix);
  await settled(page);
  return result;
}

/** Runs a prompt from the page, as the Run button does, and waits for the shift line's picture. */
export async function runPrompt(page, prompt) {
  await loadWorkflow(page, prompt, "run");
  const picture = page.locator(".musetalk-shift-stage image[href]");
  const finished = page.evaluate(
    () => new Promise((done) => window.comfyAPI.api.api.addEventListener("executing", (e) => e.detail ?? done(true))),
  );
  await page.evaluate(() => void window.app.queuePrompt(0, 1));
  await Promise.race([finished, page.waitForTimeout(90000)]);
  await settled(page, 1000);
  if ((await picture.count()) === 0) return { shown: false };
  const size = await picture.evaluate(async (image) => {
    const answer = await fetch(image.href.baseVal);
    const { width, height } = await createImageBitmap(await answer.blob());
    return [width, height];
  });
  return { shown: true, size, bar: await page.locator(".musetalk-shift-bar").textContent() };
}
