// All topics.

import { ask, query } from "./api.js";
import { h } from "./dom.js";
import { openDialog } from "./dialog.js";
import { note, rates, values } from "./history.js";
import { chart } from "./chart.js";
import { topicLink } from "./links.js";
import { notice } from "./notices.js";
import { age, button, count, head, List, loading, mark, name, table, tiles } from "./parts.js";
import { number, rate } from "./format.js";
import { optionFields, optionsOf } from "./options.js";

export class Topics {
  title = "Topics";
  crumbs = [];

  constructor(app) {
    this.app = app;
    this.list = new List(() => app.refresh());
  }

  get path() {
    return `/ui/api/topics${query(this.list.asked)}`;
  }

  took(data, now) {
    this.list.took(data);
    if (!this.list.search) note("all", now, data.total);
    for (const each of data.items) note(`topic ${each.name}`, now, each);
  }

  render(data, now) {
    return [
      h(
        "div",
        { class: "title" },
        h("h1", { tabindex: "-1" }, "Topics"),
        h(
          "div",
          { class: "actions" },
          button("New topic", () => this.#create(), "primary"),
        ),
      ),
      data && tiles("all", data.total),
      h(
        "div",
        { class: "toolbar" },
        this.list.box("Search topics"),
        data && this.list.pager(data, "topics"),
      ),
      data ? this.#table(data.items, now) : loading(),
    ];
  }

  #table(items, now) {
    const list = this.list;
    const heads = [
      head("Topic", { order: "name", list }),
      head("Subscribers", { kind: "number" }),
      head("Waiting", { order: "pending", list, kind: "number" }),
      head("In flight", { order: "leased", list, kind: "number" }),
      head("Dead letters", { order: "dead", list, kind: "number" }),
      head("Oldest", { kind: "number" }),
      head("Published/s", { kind: "number" }),
      head("Waiting, lately"),
    ];
    const empty = list.search
      ? `No topic has “${list.search}” in its name.`
      : "There is no topic yet. Make the first one, and publish to it.";
    return table(
      "Topics",
      heads,
      items.map((each) => row(each, now)),
      empty,
    );
  }

  #create() {
    openDialog({
      title: "New topic",
      fields: [
        { name: "topic", label: "Name", required: true, maxlength: 150 },
        {
          name: "subscribers",
          label: "Subscribers",
          required: true,
          hint: "Names, with commas between them. Each one gets every message.",
        },
        ...optionFields(),
      ],
      action: "Create topic",
      submit: async (given) => {
        const option = optionsOf(given);
        const names = given.subscribers
          .split(",")
          .map((each) => each.trim())
          .filter(Boolean);
        const subscribers = names.map((each) => ({ name: each, option }));
        await ask("POST", "/v1/topics", { name: given.topic, subscribers });
        notice(`Topic ${given.topic} was created.`);
        this.app.go(topicLink(given.topic));
      },
    });
  }
}

function row(each, now) {
  const key = `topic ${each.name}`;
  return h(
    "tr",
    { key },
    h(
      "th",
      { scope: "row" },
      h("a", { href: topicLink(each.name) }, name(each.name)),
      mark(each.paused, "paused"),
    ),
    h(
      "td",
      { class: "number" },
      mark(each.paused_subscribers, `${number(each.paused_subscribers)} paused`, "paused"),
      " ",
      count(each.subscribers),
    ),
    h("td", { class: "number" }, count(each.pending, "pending")),
    h("td", { class: "number" }, count(each.leased, "leased")),
    h("td", { class: "number" }, count(each.dead, "dead")),
    h("td", { class: "number" }, age(each.oldest_ms, now)),
    h("td", { class: "number" }, rate(rates(key, "published").at(-1)?.value)),
    h(
      "td",
      { class: "spark" },
      chart("Waiting", [{ kind: "pending", points: values(key, "pending") }]),
    ),
  );
}

/** What is shown to whom all topics are closed: a token may be good for some of them. */
export function oneTopic(app, why) {
  const open = (event) => {
    event.preventDefault();
    app.go(topicLink(new FormData(event.target).get("topic")));
  };
  return h(
    "form",
    { class: "panel narrow", onsubmit: open },
    h("h1", { tabindex: "-1" }, "Open a topic"),
    h("p", null, `This token cannot list all topics: ${why}.`),
    h("label", { for: "one-topic" }, "Topic"),
    h("input", { id: "one-topic", name: "topic", required: true, autocomplete: "off" }),
    h("button", { class: "primary" }, "Open"),
  );
}
