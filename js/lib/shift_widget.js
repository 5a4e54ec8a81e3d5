const NAME = "bbox_shift";

/** The `bbox_shift` widget of one node: read, written and followed, whoever changes it. */
export class ShiftWidget {
  #node;
  #widget;

  /** @returns {ShiftWidget|undefined} undefined if the node has no such widget */
  static of(node) {
    const widget = node.widgets?.find(({ name }) => name === NAME);
    return widget ? new ShiftWidget(node, widget) : undefined;
  }

  constructor(node, widget) {
    this.#node = node;
    this.#widget = widget;
  }

  /** Its value and limits, and whether a link sets it, in which case writing it would change nothing. */
  state() {
    const { min = -512, max = 512 } = this.#widget.options ?? {};
    const input = this.#node.inputs?.find((slot) => slot.widget?.name === NAME);
    return { shift: Math.round(Number(this.#widget.value)) || 0, min, max, isLinked: input?.link != null };
  }

  /** Sets the value as typing it would. */
  write(value, canvas) {
    const old = this.#widget.value;
    if (value === old) return;
    this.#widget.value = value;
    this.#widget.callback?.(value, canvas, this.#node);
    this.#node.onWidgetChanged?.(NAME, value, old, this.#widget);
    this.#node.setDirtyCanvas?.(true, true);
  }

  /** Calls `changed` after each change made in the node, by typing or by `write`. */
  follow(changed) {
    const original = this.#widget.callback;
    this.#widget.callback = function (...args) {
      const result = original?.apply(this, args);
      changed();
      return result;
    };
  }
}
