// One message: its payload, and what has become of it for each subscriber.

import { ask, path, query } from "./api.js";
import { h } from "./dom.js";
import { openDialog } from "./dialog.js";
import { bytes, number, time } from "./format.js";
import { subscriberLink, topicLink } from "./links.js";
import { notice } from "./notices.js";
import { badge, button, head, loading, moment, name, table } from "./parts.js";
import { hex, readPayload } from "./payload.js";
import { STATES } from "./subscriber.js";

const SHOWN_CHARS = 50_000;
const SHOWN_BYTES = 4_096;
const DELIVERIES = 100;

export class Message {
  #source = null;
  #payload = null;
  #as = null;
  #whole = false;
  #shown = DELIVERIES;
  #histories = new Map();

  constructor(app, topic, id) {
    this.app = app;
    this.topic = topic;
    this.id = id;
    this.title = `Message ${id}`;
    this.crumbs = [[topic, topicLink(topic)], [`…${id.slice(-8)}`]];
    this.path = path`/ui/api/topics/${topic}/messages/${id}`;
  }

  took(data) {
    const source = data.text ?? data.base64;
    if (source === this.#source) return; // it never changes
    this.#source = source;
    this.#payload = readPayload(data);
  }

  render(data, now) {
    return [
      h(
        "div",
        { class: "title" },
        h("h1", { tabindex: "-1" }, "Message"),
        data &&
          h(
            "div",
            { class: "actions" },
            button("Cancel everywhere", () => this.#cancel(), "danger"),
          ),
      ),
      data ? this.#facts(data, now) : loading(),
      data && this.#body(),
      data && this.#deliveries(data, now),
    ];
  }

  #facts(data, now) {
    const facts = [
      ["Id", h("code", { class: "whole" }, data.id)],
      ["Published", [time(data.created_ms), " (", moment(data.created_ms, now), ")"]],
      data.visible_ms !== data.created_ms && [
        "Visible",
        [time(data.visible_ms), " (", moment(data.visible_ms, now), ")"],
      ],
      ["Priority", number(data.priority)],
      data.correlation_id && ["Correlation id", h("bdi", null, data.correlation_id)],
      data.idempotency_key && ["Idempotency key", h("bdi", null, data.idempotency_key)],
    ];
    const headers = Object.entries(data.headers ?? {});
    return [
      h(
        "dl",
        { class: "facts" },
        facts.map((fact) => fact && h("div", null, h("dt", null, fact[0]), h("dd", null, fact[1]))),
      ),
      headers.length > 0 && h("h2", null, "Headers"),
      headers.length > 0 &&
        h(
          "dl",
          { class: "headers", tabindex: "0", "aria-label": "Headers" },
          headers.map(([key, value]) =>
            h("div", { key }, h("dt", null, name(key)), h("dd", null, h("bdi", null, value))),
          ),
        ),
    ];
  }

  #body() {
    const payload = this.#payload;
    const ways = [payload.json !== null && "JSON", payload.text !== null && "Text", "Hex"].filter(
      Boolean,
    );
    const as = this.#as ?? ways[0];
    const whole = { JSON: payload.json, Text: payload.text, Hex: null }[as];
    let shown = whole;
    if (as === "Hex")
      shown = hex(this.#whole ? payload.bytes : payload.bytes.subarray(0, SHOWN_BYTES));
    else if (!this.#whole) shown = whole.slice(0, SHOWN_CHARS);
    const cut =
      !this.#whole &&
      (as === "Hex" ? payload.bytes.length > SHOWN_BYTES : whole.length > SHOWN_CHARS);
    const choose = (way) => () => {
      this.#as = way;
      this.app.draw();
    };
    return h(
      "section",
      { "aria-labelledby": "payload" },
      h(
        "div",
        { class: "toolbar" },
        h("h2", { id: "payload" }, "Payload"),
        h("span", { class: "quiet" }, bytes(payload.bytes.length)),
        h(
          "div",
          { class: "choice", role: "group", "aria-label": "Show as" },
          ways.map((way) =>
            h(
              "button",
              { type: "button", "aria-pressed": String(way === as), onclick: choose(way) },
              way,
            ),
          ),
        ),
        button("Download", () => this.#download()),
      ),
      h(
        "pre",
        { class: "payload", role: "region", tabindex: "0", "aria-label": `Payload as ${as}` },
        shown || h("em", null, "empty"),
      ),
      cut &&
        button("Show all of it", () => {
          this.#whole = true;
          this.app.draw();
        }),
    );
  }

  #download() {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(
      new Blob([this.#payload.bytes], { type: "application/octet-stream" }),
    );
    link.download = `${this.id}.bin`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }

  #deliveries(data, now) {
    const [claimed, failed] = ["Claimed", "Failed"].map((text) => head(text, { kind: "number" }));
    const heads = [
      "Subscriber",
      "State",
      claimed,
      failed,
      "When",
      "Why",
      head("History", { kind: "row-actions" }),
    ];
    const rows = data.deliveries.slice(0, this.#shown).flatMap((each) => this.#delivery(each, now));
    const more = data.deliveries.length - this.#shown;
    return [
      h("h2", null, "Deliveries"),
      table("Deliveries", heads, rows, "It was published to nobody."),
      more > 0 &&
        button(`Show ${number(Math.min(more, DELIVERIES))} more`, () => {
          this.#shown += DELIVERIES;
          this.app.draw();
        }),
      data.found > data.deliveries.length &&
        h(
          "p",
          { class: "quiet" },
          `The first ${number(data.deliveries.length)} of ${number(data.found)} are listed.`,
        ),
    ];
  }

  #delivery(each, now) {
    const when =
      each.ended_ms === null
        ? ["visible ", moment(each.visible_ms, now)]
        : moment(each.ended_ms, now);
    const history = this.#histories.get(each.subscriber);
    const toggle = button(history ? "Hide failures" : "Failures", () =>
      this.#failures(each.subscriber),
    );
    toggle.props["aria-expanded"] = String(Boolean(history));
    return [
      h(
        "tr",
        { key: each.subscriber },
        h(
          "th",
          { scope: "row" },
          h("a", { href: subscriberLink(this.topic, each.subscriber) }, name(each.subscriber)),
        ),
        h("td", null, badge(STATES[each.state], each.state)),
        h("td", { class: "number" }, number(each.delivery_count)),
        h("td", { class: "number" }, number(each.failure_count)),
        h("td", null, when),
        h("td", { class: "reason" }, h("bdi", null, each.reason ?? "")),
        h(
          "td",
          { class: "row-actions" },
          (each.failure_count > 0 || each.reason !== null || history) && toggle,
        ),
      ),
      history &&
        h(
          "tr",
          { key: `failures of ${each.subscriber}` },
          h("td", { colspan: "7" }, failures(history, now)),
        ),
    ];
  }

  async #failures(subscriber) {
    if (this.#histories.delete(subscriber)) return this.app.draw();
    try {
      const base = path`/v1/topics/${this.topic}/subscribers/${subscriber}`;
      const where = base + path`/messages/${this.id}/errors` + query({ limit: 100 });
      const { errors } = await ask("GET", where);
      this.#histories.set(subscriber, errors);
    } catch (failure) {
      notice(failure.message, "bad");
    }
    this.app.draw();
  }

  #cancel() {
    openDialog({
      title: "Cancel this message?",
      text: "For all that have not finished it. Receipts of those who hold it stop working.",
      fields: [{ name: "reason", label: "Reason", hint: "May be left out." }],
      action: "Cancel message",
      danger: true,
      submit: async ({ reason }) => {
        await ask("POST", path`/v1/topics/${this.topic}/messages/${this.id}/cancel`, { reason });
        notice("The message was cancelled.");
        this.app.refresh();
      },
    });
  }
}

function failures(errors, now) {
  if (!errors.length) return h("p", { class: "quiet" }, "No failure is on record.");
  return h(
    "ol",
    { class: "failures", reversed: true },
    errors.map((each) =>
      h(
        "li",
        { key: each.id },
        moment(Date.parse(each.failed_at), now),
        h("pre", null, each.error || "(no text)"),
      ),
    ),
  );
}
