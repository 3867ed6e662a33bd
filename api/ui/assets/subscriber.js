// One subscriber: what it has in hand and before it, and its dead letters.

import { ask, Look, path, query } from "./api.js";
import { h } from "./dom.js";
import { openDialog } from "./dialog.js";
import { note } from "./history.js";
import { deadLink, messageLink, subscriberLink, topicLink } from "./links.js";
import { notice } from "./notices.js";
import { number } from "./format.js";
import { optionWords } from "./options.js";
import {
  badge,
  button,
  head,
  loading,
  mark,
  moment,
  name,
  Pages,
  table,
  tabs,
  tiles,
} from "./parts.js";
import { tried } from "./topic.js";

const LIMIT = 50;
const REPLAY_LIMIT = 1_000;

export class Subscriber {
  constructor(app, topic, subscriber, dead) {
    this.app = app;
    this.topic = topic;
    this.subscriber = subscriber;
    this.dead = Boolean(dead);
    this.title = `${subscriber} of ${topic}`;
    this.crumbs = [[topic, topicLink(topic)], [subscriber]];
    this.base = path`/v1/topics/${topic}/subscribers/${subscriber}`;
    this.pages = new Pages(() => app.refresh());
    this.key = `subscriber ${subscriber} of ${topic}`;
  }

  get path() {
    return this.#listed(this.pages.cursor, LIMIT);
  }

  #listed(cursor, limit) {
    const asked = { list: this.dead ? "dead" : "active", limit, cursor };
    return path`/ui/api/topics/${this.topic}/subscribers/${this.subscriber}` + query(asked);
  }

  took(data, now) {
    note(this.key, now, data.subscriber);
  }

  render(data, now) {
    const about = data?.subscriber;
    return [
      this.#title(about?.paused, data?.topic_paused),
      about && tiles(this.key, about, about.oldest_ms, now),
      about &&
        h(
          "dl",
          { class: "facts" },
          optionWords(about).map(([term, words]) =>
            h("div", null, h("dt", null, term), h("dd", null, words)),
          ),
        ),
      h(
        "div",
        { class: "tabbed" },
        tabs("Its messages", [
          ["Waiting and in flight", subscriberLink(this.topic, this.subscriber), !this.dead],
          ["Dead letters", deadLink(this.topic, this.subscriber), this.dead],
        ]),
        this.dead &&
          about?.dead > 0 &&
          h(
            "div",
            { class: "actions" },
            button("Replay this page", () => this.#replay(data.items.map((each) => each.id))),
            button(`Replay all ${number(about.dead)}`, () => this.#replayAll(about.dead)),
          ),
      ),
      data ? this.#table(data, now) : loading(),
      data && this.#pager(data),
    ];
  }

  #title(paused, topicPaused) {
    const pause = async () => {
      await tried(async () => {
        await ask("POST", `${this.base}/${paused ? "resume" : "pause"}`);
        notice(
          paused
            ? `${this.subscriber} goes on.`
            : `${this.subscriber} is paused: it is handed nothing.`,
        );
      });
      this.app.refresh();
    };
    return h(
      "div",
      { class: "title" },
      h(
        "h1",
        { tabindex: "-1" },
        name(this.subscriber),
        mark(paused, "paused"),
        mark(topicPaused, "topic paused", "paused"),
      ),
      h(
        "div",
        { class: "actions" },
        paused !== undefined && button(paused ? "Resume" : "Pause", pause),
        button("Delete", () => this.#delete(), "danger"),
      ),
    );
  }

  #table({ items }, now) {
    const [claimed, failed] = ["Claimed", "Failed"].map((text) => head(text, { kind: "number" }));
    const [state, why] = this.dead ? [[], "Died of"] : ["State", "When"];
    const heads = [
      "Message",
      "Begins with",
      state,
      claimed,
      failed,
      why,
      "Published",
      head("Actions", { kind: "row-actions" }),
    ].flat();
    const empty = this.dead ? "No dead letters." : "Nothing waits, and nothing is in flight.";
    const rows = items.map((each) => this.#row(each, now));
    return table(this.dead ? "Dead letters" : "Waiting and in flight", heads, rows, empty);
  }

  #row(each, now) {
    const when =
      each.state === "leased"
        ? ["lease ends ", moment(each.lease_expires_ms, now)]
        : waits(each, now);
    return h(
      "tr",
      { key: each.id },
      h(
        "th",
        { scope: "row" },
        h(
          "a",
          { href: messageLink(this.topic, each.id), class: "id" },
          h("bdi", { dir: "ltr" }, each.id),
        ),
      ),
      h("td", { class: "preview" }, preview(each)),
      !this.dead && h("td", null, badge(STATES[each.state], each.state)),
      h("td", { class: "number" }, number(each.delivery_count)),
      h("td", { class: "number" }, number(each.failure_count)),
      h("td", { class: "reason" }, this.dead ? h("bdi", null, each.reason ?? "") : when),
      h("td", null, moment(each.created_ms, now)),
      h("td", { class: "row-actions" }, this.#actions(each)),
    );
  }

  #actions(each) {
    const act = (text, run) =>
      h(
        "button",
        { type: "button", "aria-label": `${text} message ${each.id}`, onclick: run },
        text,
      );
    if (this.dead) return act("Replay", () => this.#replay([each.id]));
    return [
      each.state === "leased" && act("Ack", () => this.#ack(each)),
      act("Cancel", () => this.#cancel(each)),
    ];
  }

  #pager({ items, next_cursor: next }) {
    const words = (page) =>
      items.length ? `Page ${page}, the newest first` : `Page ${page} has nothing any more`;
    return this.pages.pager(next, "messages", words);
  }

  #ack(each) {
    openDialog({
      title: "Acknowledge for its consumer?",
      text: "Somebody holds this message and may be at work on it. It is done, whatever they say.",
      action: "Acknowledge",
      submit: async () => {
        const message = path`/messages/${each.id}/ack`;
        await ask("POST", this.base + message, { receipt_token: each.receipt_token });
        notice("The message was acknowledged.");
        this.app.refresh();
      },
    });
  }

  #cancel(each) {
    openDialog({
      title: "Cancel this message here?",
      text: `${this.subscriber} will not get it, or not again. Others are not concerned.`,
      fields: [{ name: "reason", label: "Reason", hint: "May be left out." }],
      action: "Cancel message",
      danger: true,
      submit: async ({ reason }) => {
        await ask("POST", this.base + path`/messages/${each.id}/cancel`, { reason });
        notice("The message was cancelled.");
        this.app.refresh();
      },
    });
  }

  async #replay(ids) {
    await tried(async () => notice(replayed(await this.#replayed(ids))));
    this.app.refresh();
  }

  async #replayed(ids) {
    if (!ids.length) return 0;
    const results = await ask("POST", `${this.base}/dlq/replay`, { message_ids: ids });
    return results.filter((each) => each.status === "pending").length;
  }

  #replayAll(dead) {
    const inParts = dead > REPLAY_LIMIT ? " Cancel stops after the next thousand." : "";
    openDialog({
      title: `Replay all ${number(dead)}?`,
      text: `They become visible at once, with their counts at zero.${inParts}`,
      action: "Replay all",
      submit: async (_, dialog) => {
        const look = new Look();
        let [count, cursor] = [0, ""];
        do {
          // A cursor goes on below: what dies again meanwhile is not replayed a second time.
          const { data } = await look.at(this.#listed(cursor, REPLAY_LIMIT));
          count += await this.#replayed(data.items.map((each) => each.id));
          cursor = data.next_cursor;
        } while (cursor && dialog.open);
        notice(replayed(count));
        this.app.refresh();
      },
    });
  }

  #delete() {
    openDialog({
      title: `Delete ${this.subscriber}?`,
      text: "What waits for it and its dead letters go with it. This cannot be undone.",
      fields: [{ name: "typed", label: "Type the subscriber's name", required: true }],
      action: "Delete subscriber",
      danger: true,
      submit: async ({ typed }) => {
        if (typed !== this.subscriber) throw new Error("That is not its name.");
        await ask("DELETE", this.base);
        notice(`Subscriber ${this.subscriber} was deleted.`);
        this.app.go(topicLink(this.topic));
      },
    });
  }
}

export const STATES = {
  pending: "waiting",
  waiting: "later",
  leased: "in flight",
  dead: "dead",
  processed: "done",
  cancelled: "cancelled",
};

// What no text has; the replacement character stands for bytes that are no UTF-8.
const UNPRINTABLE = /[\0-\x08\x0e-\x1f\ufffd]/;

const replayed = (count) =>
  count === 1 ? "1 message was replayed." : `${number(count)} messages were replayed.`;

function waits(each, now) {
  if (each.state === "waiting" && each.visible_ms > now)
    return ["visible ", moment(each.visible_ms, now)];
  return ["visible since ", moment(each.visible_ms, now)];
}

/** How a payload begins. */
export function preview(each) {
  if (each.preview === null) return h("em", null, "damaged");
  if (!each.is_text && UNPRINTABLE.test(each.preview)) return h("em", { class: "quiet" }, "binary");
  return h("bdi", null, each.preview || h("em", { class: "quiet" }, "empty"));
}
