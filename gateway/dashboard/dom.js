// Elements and texts: everything that is shown is made here, from text, never from markup.

/** Return an element: attributes, `on...` listeners, `style` as properties; children are elements or texts. */
export function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, one] of Object.entries(value)) element.style.setProperty(key, one);
    else if (name === "value" || name === "checked") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Give an element a text, if it has another. */
export function text(element, value) {
  const wanted = String(value);
  if (element.textContent !== wanted) element.textContent = wanted;
}

let serial = 0;

/** Return a labelled field: `input` gets an id that the label names. */
export function field(label, input, hint) {
  input.id ||= `field-${++serial}`;
  const told = hint && h("small", { id: `${input.id}-hint` }, hint);
  if (told) input.setAttribute("aria-describedby", told.id);
  return h("div", { class: "field" }, h("label", { for: input.id }, label), input, told);
}

/** Say something in passing; screen readers are told too. */
export function toast(message, kind = "good") {
  const shown = h("p", { class: `toast ${kind}` }, message);
  document.getElementById("toasts").append(shown);
  setTimeout(() => shown.remove(), kind === "bad" ? 9000 : 4500);
}

/** Run what a button does: it is out of use meanwhile, and a failure is told. */
export async function during(button, work) {
  button.disabled = true;
  button.setAttribute("aria-busy", "true");
  try {
    return await work();
  } catch (error) {
    if (error.name !== "AbortError") toast(error.message, "bad");
    return undefined;
  } finally {
    button.disabled = false;
    button.removeAttribute("aria-busy");
  }
}

/** Return a button. */
export function button(label, act, kind = "", more = {}) {
  const made = h("button", { type: "button", class: kind, ...more }, label);
  made.addEventListener("click", () => during(made, () => act(made)));
  return made;
}

/** Open a dialog with a form; `submit` is run with its data, and closes it unless it returns false. */
export function dialog(title, contents, submitLabel, submit, kind = "primary") {
  const send = submitLabel && h("button", { type: "submit", class: kind }, submitLabel);
  const id = `dialog-${++serial}`;
  const box = h(
    "dialog",
    { "aria-labelledby": id },
    h(
      "form",
      { method: "dialog" },
      h("h2", { id }, title),
      contents,
      h("div", { class: "actions end" }, h("button", { type: "button", onclick: () => box.close() }, submitLabel ? "Cancel" : "Close"), send),
    ),
  );
  box.firstElementChild.addEventListener("submit", async (event) => {
    event.preventDefault();
    const data = Object.fromEntries(new FormData(event.target));
    if (send && (await during(send, () => submit(data, box).then((kept) => (kept === false ? "stay" : "close")))) === "close") box.close();
  });
  box.addEventListener("close", () => box.remove());
  document.body.append(box);
  box.showModal();
  return box;
}

/** Ask before something that cannot be taken back. */
export function confirmed(title, message, label, act) {
  dialog(title, h("p", {}, message), label, act, "danger");
}

/** Return a piece of text that is copied with one click. */
export function copied(content, label = "Copy") {
  return button(label, async (made) => {
    await navigator.clipboard.writeText(typeof content === "function" ? content() : content);
    text(made, "Copied");
    setTimeout(() => text(made, label), 1500);
  }, "small");
}

/** Return a word for a state, with its colour. */
export function badge(state) {
  const kind = { ok: "good", active: "good", "half-open": "warn", cooling: "warn", disabled: "idle", expired: "idle", revoked: "idle" }[state] ?? "bad";
  return h("span", { class: `badge ${kind}` }, state);
}
