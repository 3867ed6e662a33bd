// One topic and its subscribers.

import { ask, path, query } from "./api.js";
import { chart } from "./chart.js";
import { h } from "./dom.js";
import { openDialog } from "./dialog.js";
import { rate, span } from "./format.js";
import { note, rates, values } from "./history.js";
import { deadLink, messageLink, schedulesLink, subscriberLink, topicLink } from "./links.js";
import { notice } from "./notices.js";
import { optionFields, optionsOf } from "./options.js";
import {
  age,
  button,
  count,
  head,
  List,
  loading,
  mark,
  moment,
  name,
  table,
  tabs,
  tiles,
} from "./parts.js";
import { openPublish } from "./publish.js";

export class Topic {
  constructor(app, topic) {
    this.app = app;
    this.topic = topic;
    this.title = topic;
    this.crumbs = [[topic]];
    this.list = new List(() => app.refresh());
  }

  get path() {
    return path`/ui/api/topics/${this.topic}` + query(this.list.asked);
  }

  took(data, now) {
    this.list.took(data);
    if (!this.list.search) note(`topic ${this.topic}`, now, data.total);
    for (const each of data.items) note(this.#key(each), now, each);
  }

  #key(subscriber) {
    return `subscriber ${subscriber.name} of ${this.topic}`;
  }

  render(data, now) {
    const { list, topic } = this;
    return [
      topicTitle(this.app, topic, data?.topic.paused),
      data && !list.search && tiles(`topic ${topic}`, data.total),
      topicTabs(topic, "subscribers"),
      h(
        "div",
        { class: "toolbar" },
        list.box("Search subscribers"),
        button("Add subscribers", () => this.#add()),
        data && list.pager(data, "subscribers"),
      ),
      data ? this.#table(data.items, now) : loading(),
      data && this.#foot(data.topic, now),
    ];
  }

  #table(items, now) {
    const list = this.list;
    const heads = [
      head("Subscriber", { order: "name", list }),
      head("Waiting", { order: "pending", list, kind: "number" }),
      head("Of these, delayed", { kind: "number" }),
      head("In flight", { order: "leased", list, kind: "number" }),
      head("Dead letters", { order: "dead", list, kind: "number" }),
      head("Oldest", { kind: "number" }),
      head("Done/s", { kind: "number" }),
      head("Waiting, lately"),
    ];
    const empty = list.search
      ? `No subscriber has “${list.search}” in its name.`
      : "Nobody subscribes. Until somebody does, nothing can be published.";
    return table(
      "Subscribers",
      heads,
      items.map((each) => this.#row(each, now)),
      empty,
    );
  }

  #row(each, now) {
    const key = this.#key(each);
    const dead =
      each.dead > 0 && h("a", { href: deadLink(this.topic, each.name) }, count(each.dead, "dead"));
    return h(
      "tr",
      { key: each.name },
      h(
        "th",
        { scope: "row" },
        h("a", { href: subscriberLink(this.topic, each.name) }, name(each.name)),
        mark(each.paused, "paused"),
      ),
      h("td", { class: "number" }, count(each.pending, "pending")),
      h("td", { class: "number" }, count(each.waiting, "waiting")),
      h("td", { class: "number" }, count(each.leased, "leased")),
      h("td", { class: "number" }, dead || count(0)),
      h("td", { class: "number" }, age(each.oldest_ms, now)),
      h("td", { class: "number" }, rate(rates(key, "done").at(-1)?.value)),
      h(
        "td",
        { class: "spark" },
        chart("Waiting", [{ kind: "pending", points: values(key, "pending") }]),
      ),
    );
  }

  #foot(about, now) {
    const kept = about.retention_ms ? `for ${span(about.retention_ms)}` : "not at all";
    return h(
      "p",
      { class: "quiet" },
      "Made ",
      moment(about.created_ms, now),
      `. Consumed messages are kept ${kept}.`,
    );
  }

  #add() {
    openDialog({
      title: "Add subscribers",
      text: "They get what is published from now on.",
      fields: [
        { name: "names", label: "Names", required: true, hint: "With commas between them." },
        ...optionFields(),
      ],
      action: "Add",
      submit: async (given) => {
        const option = optionsOf(given);
        const names = given.names
          .split(",")
          .map((each) => each.trim())
          .filter(Boolean);
        const body = names.map((each) => ({ name: each, option }));
        await ask("POST", path`/v1/topics/${this.topic}/subscribers`, body);
        const one = names.length === 1;
        const added = one ? `Subscriber ${names[0]} was` : `${names.length} subscribers were`;
        notice(`${added} added.`);
        this.app.refresh();
      },
    });
  }
}

/** A topic's name and what can be done with all of it. */
export function topicTitle(app, topic, paused) {
  const pause = async () => {
    await tried(async () => {
      await ask("POST", `${path`/v1/topics/${topic}/`}${paused ? "resume" : "pause"}`);
      notice(paused ? `${topic} goes on.` : `${topic} is paused: nothing of it is handed out.`);
    });
    app.refresh();
  };
  return h(
    "div",
    { class: "title" },
    h("h1", { tabindex: "-1" }, name(topic), mark(paused, "paused")),
    h(
      "div",
      { class: "actions" },
      button("Publish", () => openPublish(app, topic), "primary"),
      paused !== undefined && button(paused ? "Resume" : "Pause", pause),
      button("Delete", () => openDelete(app, topic), "danger"),
    ),
  );
}

/** Do something that no dialog stands for; say so if it fails. */
export async function tried(run) {
  try {
    await run();
  } catch (failure) {
    notice(failure.message, "bad");
  }
}

function openDelete(app, topic) {
  openDialog({
    title: `Delete ${topic}?`,
    text: "Its subscribers, messages and schedules go with it. This cannot be undone.",
    fields: [{ name: "typed", label: "Type the topic's name", required: true }],
    action: "Delete topic",
    danger: true,
    submit: async ({ typed }) => {
      if (typed !== topic) throw new Error("That is not its name.");
      await ask("DELETE", path`/v1/topics/${topic}`);
      notice(`Topic ${topic} was deleted.`);
      app.go("#/");
    },
  });
}

export function topicTabs(topic, current) {
  const find = (event) => {
    event.preventDefault();
    location.hash = messageLink(topic, new FormData(event.target).get("id").trim());
  };
  return h(
    "div",
    { class: "tabbed" },
    tabs("Of the topic", [
      ["Subscribers", topicLink(topic), current === "subscribers"],
      ["Schedules", schedulesLink(topic), current === "schedules"],
    ]),
    h(
      "form",
      { class: "find", role: "search", onsubmit: find },
      h("label", { class: "hidden", for: "find" }, "Find a message by its id"),
      h("input", {
        id: "find",
        name: "id",
        placeholder: "Message id",
        required: true,
        spellcheck: "false",
        autocomplete: "off",
      }),
      h("button", null, "Look up"),
    ),
  );
}
