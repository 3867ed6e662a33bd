// Questions to the reader, as native dialogs: these keep the focus in and give it back.

import { h, render } from "./dom.js";

let numbers = 0;

/**
 * Ask, and do something with the answer.
 *
 * `fields`: `{name, label, kind, hint, value, required, …}`, each a row of the form.
 * `submit(values, dialog)` may fail: its error is shown, and the dialog stays. What takes long
 * looks whether the dialog is still open.
 */
export function openDialog({ title, text, fields = [], action, danger = false, submit }) {
  const dialog = document.createElement("dialog");
  const id = `dialog-${++numbers}`;
  let error = null;
  let busy = false;
  const draw = () => {
    dialog.className = danger ? "danger" : "";
    dialog.setAttribute("aria-labelledby", id);
    const form = h(
      "form",
      { method: "dialog", onsubmit: send },
      h("h2", { id }, title),
      text && h("p", null, text),
      fields.map((each) => row(each, id)),
      h("p", { class: "error", role: "alert" }, error),
      h(
        "div",
        { class: "buttons" },
        h("button", { type: "button", onclick: () => dialog.close() }, "Cancel"),
        h("button", { class: danger ? "danger" : "primary", disabled: busy }, action),
      ),
    );
    render(dialog, form);
  };
  const send = async (event) => {
    event.preventDefault();
    const values = Object.fromEntries(new FormData(event.target));
    [busy, error] = [true, null];
    draw();
    try {
      await submit(values, dialog);
      dialog.close();
    } catch (failure) {
      error = failure.message;
    }
    busy = false;
    draw();
  };
  dialog.onclose = () => dialog.remove();
  draw();
  document.body.append(dialog);
  dialog.showModal();
  dialog.querySelector("input, textarea, button.danger")?.focus();
}

function row({ name, label, kind = "text", hint, ...others }, id) {
  const about = `${id}-${name}`;
  const props = { id: about, name, "aria-describedby": hint && `${about}-hint`, ...others };
  const input =
    kind === "textarea"
      ? h("textarea", { rows: 5, spellcheck: "false", ...props })
      : h("input", { type: kind, autocomplete: "off", spellcheck: "false", ...props });
  return h(
    "div",
    { class: "field" },
    h("label", { for: about }, label),
    input,
    hint && h("small", { id: `${about}-hint` }, hint),
  );
}
