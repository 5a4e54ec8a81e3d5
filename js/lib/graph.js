import { app } from "../../../scripts/app.js";

/** Runs `work`; a failure is told to the console and nobody else, so that the canvas stays usable. */
export function guarded(work) {
  try {
    return work();
  } catch (error) {
    console.warn("[MuseTalk Studio]", error);
    return undefined;
  }
}

/** Makes `node[name]` run `work` after whatever it ran before. */
export function after(node, name, work) {
  const original = node[name];
  node[name] = function (...args) {
    const result = original?.apply(this, args);
    guarded(() => work(...args));
    return result;
  };
}

/**
 * Gives the nodes of a class what they reported, again: the graph was rebuilt by another tab, undo, or a subgraph that
 * was opened.
 *
 * @param {object} nodeOutputs                              `app.nodeOutputs`, or a new one
 * @param {string} comfyClass
 * @param {(node: object, output: object) => void} show
 */
export function restoreOutputs(nodeOutputs, comfyClass, show) {
  guarded(() => {
    for (const [key, output] of Object.entries(nodeOutputs ?? {})) {
      const node = nodeOfKey(key);
      if (node?.comfyClass === comfyClass) show(node, output);
    }
  });
}

/** The node of a key of `app.nodeOutputs`: "12" in the root graph, "<subgraph id>:12" inside a subgraph. */
function nodeOfKey(key) {
  const root = app.rootGraph ?? app.graph;
  const cut = key.lastIndexOf(":");
  const graph = cut < 0 ? root : root?.subgraphs?.get(key.slice(0, cut));
  const id = key.slice(cut + 1);
  return graph?.getNodeById(id) ?? graph?.getNodeById(Number(id));
}

/**
 * Puts `element` where the one of the same class and node was before the graph was rebuilt. Undo makes new nodes, but
 * Vue nodes (frontend 1.49) keep what they showed for the id and do not look for a new element.
 */
export function takePlace(node, element) {
  if (element.isConnected || node.graph !== app.canvas?.graph) return;
  const name = element.classList[0];
  document.querySelector(`[data-node-id="${CSS.escape(String(node.id))}"] .${name}`)?.replaceWith(element);
}

/** Adds one of the pack's style sheets to the page. `url`: of the module that asks. */
export function loadStyle(name, url) {
  const link = document.createElement("link");
  link.rel = "stylesheet";
  link.href = new URL(name, url).href;
  document.head.append(link);
}

/** ComfyUI's interface language. */
export function locale() {
  return app.extensionManager?.setting?.get("Comfy.Locale");
}
