// Live avatars in ComfyUI's page: a panel in the side bar, and the link of each Live Avatar node.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { after, guarded, loadStyle, locale, restoreOutputs, takePlace } from "./lib/graph.js";
import { LiveLink } from "./lib/live_link.js";
import { liveMessagesFor } from "./lib/live_messages.js";
import { LivePanel } from "./lib/live_panel.js";

const LIVE_AVATAR = "MuseTalkLiveAvatar";
const TAB = "musetalk-live";
const REBUILD_TIME = 200;

/** @type {WeakMap<object, LiveLink>} */
const links = new WeakMap();
/** Made when the tab is first opened, and kept: what is on the air goes on while another tab is looked at. */
let panel;

function messages() {
  return liveMessagesFor(locale());
}

function openPanel(element) {
  panel ??= new LivePanel({
    messages: messages(),
    api: new URL(api.apiURL("/musetalk/live/"), location.href),
    page: new URL(api.fileURL("/musetalk/live/"), location.href),
  });
  element.append(panel.element);
  panel.show();
}

/** The link of `node`, made on first use. */
function linkOf(node) {
  const known = links.get(node);
  if (known) return known;
  const link = new LiveLink({
    messages: messages(),
    address: (path) => api.fileURL(path),
    onPanel: (avatar) => guarded(() => choose(avatar)),
  });
  const options = { serialize: false, hideOnZoom: false, getMinHeight: () => link.minHeight, getValue: () => "" };
  node.addDOMWidget("live_link", "MUSETALK_LIVE_LINK", link.element, options).serialize = false;
  links.set(node, link);
  after(node, "onConfigure", () => setTimeout(() => guarded(() => takePlace(node, link.element)), REBUILD_TIME));
  after(node, "onRemoved", () => links.delete(node));
  return link;
}

/** Opens the panel with an avatar chosen. */
async function choose(avatar) {
  const { sidebarTab, command } = app.extensionManager;
  if (sidebarTab?.activeSidebarTabId !== TAB) await command.execute(`Workspace.ToggleSidebarTab.${TAB}`);
  await panel?.choose(avatar);
}

function showOutput(node, output) {
  const told = output?.musetalk_live?.[0];
  if (typeof told?.avatar !== "string" || typeof told?.path !== "string") return;
  linkOf(node).show(told);
  void panel?.choose(told.avatar);
}

app.registerExtension({
  name: "musetalk.live",
  init() {
    guarded(() => loadStyle("./live.css", import.meta.url));
  },
  setup() {
    const { title, tooltip } = messages();
    guarded(() =>
      app.extensionManager.registerSidebarTab({
        id: TAB,
        icon: "pi pi-video",
        title,
        tooltip,
        type: "custom",
        render: (element) => guarded(() => openPanel(element)),
        destroy: () => guarded(() => panel?.hide()),
      }),
    );
  },
  nodeCreated(node) {
    if (node.comfyClass !== LIVE_AVATAR) return;
    after(node, "onExecuted", (output) => showOutput(node, output));
    guarded(() => linkOf(node));
  },
  afterConfigureGraph() {
    restoreOutputs(app.nodeOutputs, LIVE_AVATAR, showOutput);
  },
  onNodeOutputsUpdated(nodeOutputs) {
    restoreOutputs(nodeOutputs, LIVE_AVATAR, showOutput);
  },
});
