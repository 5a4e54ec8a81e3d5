import { isUseful, possibleShifts, predictBox, viewport } from "./face_boxes.js";

const EMPTY_HEIGHT = 56;
const PICTURE_HEIGHT = 260;
const BIG_STEP = 10;

const signed = (value) => (value > 0 ? `+${value}` : String(value).replace("-", "\u2212"));

function html(tag, className, parent) {
  const element = document.createElement(tag);
  element.className = className;
  parent?.append(element);
  return element;
}

function svg(tag, className, parent) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  element.setAttribute("class", className);
  parent?.append(element);
  return element;
}

function place(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
}

/**
 * A frame with its face box, and a horizontal line that can be dragged or moved with the arrow keys.
 *
 * It is one SVG whose units are pixels of the source frame, so picture, box and pointer agree at any size and zoom, on
 * the canvas and in Vue nodes alike. It knows neither node nor graph: it shows what it is told and reports where the
 * line goes.
 */
export class ShiftView {
  /** @type {HTMLElement} */
  element;

  #messages;
  #pictureUrl;
  #onShift;
  #listeners = new AbortController();
  #boxes = [];
  #position = 0;
  #isWhole = false;
  #shift = { shift: 0, min: -512, max: 512, isLinked: false };
  #drag = null;
  #parts;

  /**
   * @param {object} settings
   * @param {object} settings.messages          see messages.js
   * @param {(box: object) => string} settings.pictureUrl   the address of a box's picture
   * @param {(shift: number) => void} settings.onShift      the line was moved
   * @param {() => void} settings.onLook        the user turns to the view: a chance to call showShift
   */
  constructor({ messages, pictureUrl, onShift, onLook }) {
    this.#messages = messages;
    this.#pictureUrl = pictureUrl;
    this.#onShift = onShift;
    this.#build();
    this.#listen(onLook);
    this.#draw();
  }

  /** Pixels below which the view is of no use. */
  get minHeight() {
    return this.#boxes.length ? PICTURE_HEIGHT : EMPTY_HEIGHT;
  }

  /** @param {import("./face_boxes.js").FaceBox[]} boxes at least one */
  showBoxes(boxes) {
    this.#boxes = boxes;
    this.#position = Math.min(this.#position, boxes.length - 1);
    this.#loadPicture();
    this.#draw();
  }

  /** @param {{shift: number, min: number, max: number, isLinked: boolean}} state */
  showShift(state) {
    this.#shift = state;
    this.#draw();
  }

  /** Stops listening and lets go of the picture; the element leaves the page with the node that holds it. */
  destroy() {
    this.#listeners.abort();
    this.#drag = null;
    this.#parts.picture.removeAttribute("href");
  }

  get #box() {
    return this.#boxes[this.#position];
  }

  #build() {
    const text = this.#messages;
    this.element = html("div", "musetalk-shift");
    const note = html("p", "musetalk-shift-note", this.element);
    const stage = svg("svg", "musetalk-shift-stage", this.element);
    const bar = html("div", "musetalk-shift-bar", this.element);

    const picture = svg("image", "", stage);
    const box = svg("rect", "musetalk-shift-box", stage);
    const mouth = svg("rect", "musetalk-shift-mouth", stage);
    const limits = [svg("line", "musetalk-shift-limit", stage), svg("line", "musetalk-shift-limit", stage)];
    const slider = svg("g", "musetalk-shift-slider", stage);
    const lines = [svg("line", "musetalk-shift-grip", slider), svg("line", "musetalk-shift-line", slider)];
    place(slider, { role: "slider", tabindex: 0, "aria-orientation": "vertical", "aria-label": text.slider });

    const button = (label, sign) => {
      const element = html("button", "", bar);
      Object.assign(element, { type: "button", textContent: sign, title: label, ariaLabel: label });
      return element;
    };
    const previous = button(text.previous, "\u2039");
    const frame = html("span", "", bar);
    const next = button(text.next, "\u203a");
    const readout = html("output", "musetalk-shift-readout", bar);
    const whole = button(text.whole, text.whole);
    const drawn = { stage, picture, box, mouth, limits, slider, lines };
    this.#parts = { ...drawn, note, bar, previous, frame, next, readout, whole };
  }

  #listen(onLook) {
    const { signal } = this.#listeners;
    const { picture, slider, previous, next, whole, note } = this.#parts;
    const on = (target, type, handler) => target.addEventListener(type, handler, { signal });

    on(this.element, "pointerenter", onLook);
    on(this.element, "focusin", onLook);
    on(picture, "error", () => {
      note.textContent = this.#messages.missing;
      note.hidden = false;
    });
    on(picture, "load", () => (note.hidden = true));
    on(previous, "click", () => this.#step(-1));
    on(next, "click", () => this.#step(1));
    on(whole, "click", () => {
      this.#isWhole = !this.#isWhole;
      this.#draw();
    });
    on(slider, "keydown", (event) => this.#onKey(event));
    // After a key, ComfyUI waits for this event, from the next frame on, before it records a step to undo.
    const announce = () => slider.dispatchEvent(new Event("change"));
    on(slider, "keyup", () => requestAnimationFrame(() => requestAnimationFrame(announce)));
    on(slider, "pointerdown", (event) => this.#onGrab(event));
    on(slider, "pointermove", (event) => this.#onDrag(event));
    const release = () => (this.#drag = null);
    for (const type of ["pointerup", "pointercancel", "lostpointercapture"]) on(slider, type, release);
  }

  #step(by) {
    const count = this.#boxes.length;
    if (count === 0) return;
    this.#position = (this.#position + by + count) % count;
    this.#loadPicture();
    this.#draw();
  }

  #loadPicture() {
    this.#parts.picture.setAttribute("href", this.#pictureUrl(this.#box));
  }

  get #range() {
    const { min, max } = possibleShifts(this.#box);
    return { min: Math.max(this.#shift.min, min), max: Math.min(this.#shift.max, max) };
  }

  #moveTo(shift) {
    if (!this.#box || this.#shift.isLinked) return;
    const { min, max } = this.#range;
    const clamped = Math.round(Math.min(Math.max(shift, min), max));
    if (clamped !== this.#shift.shift) this.#onShift(clamped);
  }

  /** Where the pointer is, in pixels of the source frame. */
  #pointerY(event) {
    const matrix = this.#parts.stage.getScreenCTM();
    return new DOMPoint(event.clientX, event.clientY).matrixTransform(matrix.inverse()).y;
  }

  #onGrab(event) {
    if (event.button !== 0 || !this.#box || this.#shift.isLinked) return;
    // Not preventDefault: that would keep back the mouseup after which ComfyUI records a step to undo.
    event.stopPropagation();
    const { slider } = this.#parts;
    slider.focus({ preventScroll: true });
    slider.setPointerCapture(event.pointerId);
    this.#drag = { from: this.#shift.shift, offset: this.#pointerY(event) - this.#shift.shift };
  }

  #onDrag(event) {
    if (!this.#drag) return;
    event.stopPropagation();
    this.#moveTo(this.#pointerY(event) - this.#drag.offset);
  }

  #onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !this.#box) return;
    const { shift } = this.#shift;
    const { up, down } = this.#box;
    const step = event.shiftKey ? BIG_STEP : 1;
    // As on the picture: down is down, whatever a slider's keys do elsewhere.
    const targets = {
      ArrowUp: shift - step,
      ArrowDown: shift + step,
      PageUp: shift - BIG_STEP,
      PageDown: shift + BIG_STEP,
      Home: up === null ? this.#range.min : -up,
      End: down ?? this.#range.max,
      Escape: this.#drag?.from,
    };
    const target = targets[event.key];
    if (target === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    if (event.key === "Escape") this.#drag = null;
    this.#moveTo(target);
  }

  #draw() {
    const { note, stage, bar } = this.#parts;
    const box = this.#box;
    stage.style.display = box ? "" : "none";
    bar.style.display = box ? "" : "none";
    this.element.style.minHeight = `${this.minHeight}px`;
    if (!box) {
      note.textContent = this.#messages.empty;
      return;
    }
    this.#drawStage(box);
    this.#drawBar(box);
  }

  #drawStage(box) {
    const { stage, picture, box: frame, mouth, limits, slider, lines } = this.#parts;
    const { shift, isLinked } = this.#shift;
    const view = viewport(box, this.#isWhole);
    const { line, ...rect } = predictBox(box, shift);
    const across = (y) => ({ x1: view.x, x2: view.x + view.width, y1: y, y2: y });

    place(stage, { viewBox: `${view.x} ${view.y} ${view.width} ${view.height}` });
    place(picture, { width: box.width, height: box.height, preserveAspectRatio: "none" });
    place(frame, rect);
    place(mouth, { ...rect, y: line, height: Math.max(0, rect.y + rect.height - line) });
    [box.up === null ? null : -box.up, box.down].forEach((limit, index) => {
      limits[index].style.display = limit === null ? "none" : "";
      place(limits[index], { ...across(box.middle + (limit ?? 0)), x1: rect.x, x2: rect.x + rect.width });
    });
    for (const element of lines) place(element, across(line));
    const { min, max } = this.#range;
    const valueText = isLinked ? this.#messages.linked : this.#messages.shift(signed(shift));
    place(slider, { "aria-valuemin": min, "aria-valuemax": max, "aria-valuenow": shift });
    place(slider, { "aria-valuetext": valueText, "aria-disabled": isLinked });
  }

  #drawBar(box) {
    const { previous, next, frame, readout, whole } = this.#parts;
    const text = this.#messages;
    const { shift, isLinked } = this.#shift;
    const count = this.#boxes.length;
    previous.disabled = next.disabled = count < 2;
    frame.textContent = text.frame(box.frame, this.#position + 1, count);
    const isRangeKnown = box.up !== null && box.down !== null;
    const range = isRangeKnown ? ` \u00b7 ${text.useful(signed(-box.up), signed(box.down))}` : "";
    readout.textContent = isLinked ? text.linked : text.shift(signed(shift)) + range;
    readout.classList.toggle("is-outside", !isUseful(box, shift));
    whole.textContent = whole.title = whole.ariaLabel = this.#isWhole ? text.face : text.whole;
  }
}
