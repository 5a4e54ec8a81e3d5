// ComfyUI imports every .js file under this folder by itself; those beside this one have effects, lib/ only exports.
// They are .js rather than .mjs because ComfyUI serves .js uncached: an update never mixes old files with new.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { parseBoxes } from "./lib/face_boxes.js";
import { after, guarded, loadStyle, locale, restoreOutputs, takePlace } from "./lib/graph.js";
import { messagesFor } from "./lib/messages.js";
import { ShiftView } from "./lib/shift_view.js";
import { ShiftWidget } from "./lib/shift_widget.js";

const PREPARE_AVATAR = "MuseTalkPrepareAvatar";
const WIDGET_NAME = "shift_line";
/** Milliseconds within which the page has drawn a rebuilt graph. */
const REBUILD_TIME = 200;

/** The view of each node that has one. @type {WeakMap<object, ShiftView>} */
const views = new WeakMap();

/** The address of a picture that a node wrote; never served from a cache, since names come back after a restart. */
function pictureUrl({ filename, subfolder, type }) {
  return api.apiURL(`/view?${new URLSearchParams({ filename, subfolder, type, rand: String(Math.random()) })}`);
}

/** The view of `node`, made on first use; undefined if the node has no bbox_shift. */
function viewOf(node) {
  const known = views.get(node);
  if (known) return known;
  const widget = ShiftWidget.of(node);
  if (!widget) return undefined;

  const view = new ShiftView({
    messages: messagesFor(locale()),
    pictureUrl,
    onShift: (value) => guarded(() => widget.write(value, app.canvas)),
    onLook: () => guarded(() => view.showShift(widget.state())),
  });
  const options = { serialize: false, hideOnZoom: false, getMinHeight: () => view.minHeight, getValue: () => "" };
  const domWidget = node.addDOMWidget(WIDGET_NAME, "MUSETALK_SHIFT_LINE", view.element, options);
  domWidget.serialize = false;
  views.set(node, view);

  widget.follow(() => guarded(() => view.showShift(widget.state())));
  after(node, "onConfigure", () => {
    view.showShift(widget.state());
    setTimeout(() => guarded(() => takePlace(node, view.element)), REBUILD_TIME);
  });
  after(node, "onConnectionsChange", () => view.showShift(widget.state()));
  after(node, "onRemoved", () => {
    view.destroy();
    views.delete(node);
  });
  view.showShift(widget.state());
  return view;
}

/** Shows what an execution of `node` reported; older reports stay when this one has none. */
function showOutput(node, output) {
  const boxes = parseBoxes(output);
  if (boxes.length === 0) return;
  const view = viewOf(node);
  if (!view) return;
  view.showBoxes(boxes);
  const [width, height] = node.computeSize();
  node.setSize([Math.max(node.size[0], width), Math.max(node.size[1], height)]);
  node.setDirtyCanvas?.(true, true);
}

app.registerExtension({
  name: "musetalk.studio",
  init() {
    guarded(() => loadStyle("./musetalk.css", import.meta.url));
  },
  nodeCreated(node) {
    if (node.comfyClass !== PREPARE_AVATAR) return;
    after(node, "onExecuted", (output) => showOutput(node, output));
    guarded(() => viewOf(node));
  },
  afterConfigureGraph() {
    restoreOutputs(app.nodeOutputs, PREPARE_AVATAR, showOutput);
  },
  onNodeOutputsUpdated(nodeOutputs) {
    restoreOutputs(nodeOutputs, PREPARE_AVATAR, showOutput);
  },
});
