const HEIGHT = 40;

/** What a Live Avatar node shows: the way to its avatar's page, and to the side panel. */
export class LiveLink {
  minHeight = HEIGHT;

  #address;
  #note;
  #page;
  #panel;
  #avatar = "";

  /**
   * @param {object} settings
   * @param {object} settings.messages                    see live_messages.js
   * @param {(path: string) => string} settings.address   of a path on ComfyUI's server
   * @param {(avatar: string) => void} settings.onPanel   the panel is wanted
   */
  constructor({ messages, address, onPanel }) {
    this.#address = address;
    this.element = document.createElement("div");
    this.element.className = "musetalk-live-link";
    this.#note = document.createElement("span");
    this.#note.textContent = messages.notRun;
    this.#page = document.createElement("a");
    Object.assign(this.#page, { textContent: messages.openPage, target: "_blank", rel: "noopener", hidden: true });
    this.#panel = document.createElement("button");
    Object.assign(this.#panel, { type: "button", textContent: messages.openPanel, hidden: true });
    this.#panel.addEventListener("click", () => onPanel(this.#avatar));
    this.element.append(this.#note, this.#page, this.#panel);
  }

  /** Shows the avatar that an execution made ready. */
  show({ avatar, path }) {
    this.#avatar = avatar;
    this.#page.href = this.#address(path);
    this.#note.hidden = true;
    this.#page.hidden = this.#panel.hidden = false;
  }
}
