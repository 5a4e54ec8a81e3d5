/** An element with properties and children; an array among the children is spread. */
function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children.flat());
  return element;
}

/**
 * The side panel's elements, by name, without behaviour; `root` holds them all.
 *
 * The panel lives in ComfyUI's page: its look comes from ComfyUI's colours, and no id is used that another extension
 * could have.
 */
export function buildView(messages) {
  const button = (text, properties) => make("button", { type: "button", textContent: text, ...properties });
  const view = {
    video: make("video", { autoplay: true, playsInline: true, muted: true }),
    notice: make("p", { className: "musetalk-live-notice", textContent: messages.choose, role: "status" }),
    fps: make("dd", { textContent: "–" }),
    delay: make("dd", { textContent: "–" }),
    state: make("dd", { textContent: messages.idle }),
    unlock: make("form", { className: "musetalk-live-row", hidden: true }),
    token: make("input", { type: "password", autocomplete: "off", placeholder: messages.token, required: true }),
    avatars: make("select", { ariaLabel: messages.avatar }),
    refresh: button("↻", { title: messages.refresh, ariaLabel: messages.refresh }),
    start: button(messages.start, { className: "is-primary" }),
    controls: make("fieldset", { disabled: true }),
    say: make("form", { className: "musetalk-live-say" }),
    text: make("textarea", { rows: 3, maxLength: 4000, placeholder: messages.placeholder, ariaLabel: messages.text }),
    speak: make("button", { textContent: messages.say }),
    ask: button(messages.ask),
    noVoice: make("p", { className: "musetalk-live-hint", textContent: messages.noVoice }),
    file: make("input", { type: "file", accept: "audio/*,video/*" }),
    microphone: button(messages.microphone, { ariaPressed: "false" }),
    interrupt: button(messages.interrupt),
    sound: button(messages.sound, { ariaPressed: "false" }),
    clean: make("a", { textContent: messages.clean, target: "_blank", rel: "noopener" }),
    page: make("a", { textContent: messages.page, target: "_blank", rel: "noopener" }),
    log: make("div", { className: "musetalk-live-log", role: "log" }),
  };
  const meter = (name, value) => make("div", {}, make("dt", { textContent: name }), value);
  const row = (...children) => make("div", { className: "musetalk-live-row" }, children);
  view.unlock.append(view.token, make("button", { textContent: messages.unlock }));
  view.say.append(view.text, row(view.speak, view.ask), view.noVoice);
  view.controls.append(
    view.say,
    make("label", {}, messages.file, view.file),
    row(view.microphone, view.interrupt, view.sound),
    row(view.clean),
  );
  view.root = make(
    "div",
    { className: "musetalk-live" },
    make("div", { className: "musetalk-live-stage" }, view.video, view.notice),
    make("dl", {}, meter("fps", view.fps), meter(messages.delay, view.delay), meter("", view.state)),
    view.unlock,
    row(view.avatars, view.refresh, view.start),
    view.controls,
    row(view.page),
    view.log,
  );
  return view;
}
