// The schedules of a topic, and their last runs.

import { ask, path, query } from "./api.js";
import { h } from "./dom.js";
import { openDialog } from "./dialog.js";
import { messageLink, topicLink } from "./links.js";
import { notice } from "./notices.js";
import { badge, button, head, loading, mark, moment, name, table } from "./parts.js";
import { topicTabs, topicTitle, tried } from "./topic.js";

const RUNS = 10;

export class Schedules {
  #cursors = [""];
  #runs = new Map();

  constructor(app, topic) {
    this.app = app;
    this.topic = topic;
    this.title = `Schedules of ${topic}`;
    this.crumbs = [[topic, topicLink(topic)], ["Schedules"]];
    this.base = path`/v1/topics/${topic}/schedules`;
  }

  get path() {
    return this.base + query({ limit: 50, cursor: this.#cursors.at(-1) });
  }

  took() {
    for (const id of this.#runs.keys()) this.#load(id);
  }

  render(data, now) {
    const heads = ["Schedule", "Cron", "Next run", "Message", head("Actions", { kind: "row-actions" })];
    const empty = "No schedules. One publishes its message again and again, as a cron expression says.";
    const page = this.#cursors.length;
    return [
      topicTitle(this.app, this.topic),
      topicTabs(this.topic, "schedules"),
      h("div", { class: "toolbar" }, button("New schedule", () => this.#create())),
      data ? table("Schedules", heads, data.schedules.flatMap((each) => this.#row(each, now)), empty) : loading(),
      data && (page > 1 || data.next_cursor) && h(
        "nav",
        { class: "pager", "aria-label": "Pages of schedules" },
        h("span", null, `Page ${page}`),
        h("button", { type: "button", disabled: page === 1, onclick: () => this.#turn(() => this.#cursors.pop()) }, "Previous"),
        h("button", { type: "button", disabled: !data.next_cursor, onclick: () => this.#turn(() => this.#cursors.push(data.next_cursor)) }, "Next"),
      ),
    ];
  }

  #turn(change) {
    change();
    this.app.refresh();
  }

  #row(each, now) {
    const runs = this.#runs.get(each.id);
    const next = Date.parse(each.next_run_at);
    const toggle = button(runs ? "Hide runs" : "Runs", () => this.#toggle(each.id));
    toggle.props["aria-expanded"] = String(Boolean(runs));
    return [
      h(
        "tr",
        { key: each.id },
        h("th", { scope: "row" }, name(each.name), mark(each.paused, "paused")),
        h("td", null, h("code", null, each.cron), " ", h("small", null, each.timezone)),
        h("td", null, each.paused ? "–" : moment(next, now)),
        h("td", { class: "preview" }, h("bdi", null, each.message.slice(0, 100) || h("em", null, "empty"))),
        h(
          "td",
          { class: "row-actions" },
          toggle,
          button("Run now", () => this.#do(each, "run-now")),
          button(each.paused ? "Resume" : "Pause", () => this.#do(each, each.paused ? "resume" : "pause")),
          button("Delete", () => this.#delete(each), "danger"),
        ),
      ),
      runs && h("tr", { key: `runs of ${each.id}` }, h("td", { colspan: "5" }, runList(this.topic, runs, now))),
    ];
  }

  async #do(each, verb) {
    await tried(async () => {
      const done = await ask("POST", this.base + path`/${each.id}/` + verb);
      if (verb !== "run-now") notice(`${each.name} ${verb === "pause" ? "is paused" : "goes on"}.`);
      else if (done.status === "skipped") notice(`${each.name} was skipped: its last run is not finished.`, "bad");
      else notice(`${each.name} has published its message.`);
    });
    this.app.refresh();
  }

  async #toggle(id) {
    if (this.#runs.delete(id)) this.app.draw();
    else await tried(() => this.#load(id));
  }

  async #load(id) {
    const { runs } = await ask("GET", this.base + path`/${id}/runs` + query({ limit: RUNS }));
    this.#runs.set(id, runs);
    this.app.draw();
  }

  #create() {
    openDialog({
      title: "New schedule",
      fields: [
        { name: "name", label: "Name", required: true, maxlength: 150 },
        {
          name: "cron",
          label: "Cron",
          required: true,
          placeholder: "30 2 * * MON-FRI",
          hint: "Minute, hour, day, month, day of the week.",
        },
        { name: "timezone", label: "Time zone", value: "UTC", hint: "As in Europe/Vienna." },
        { name: "message", label: "Message", kind: "textarea" },
      ],
      action: "Create schedule",
      submit: async (given) => {
        await ask("POST", this.base, given);
        notice(`Schedule ${given.name} was created.`);
        this.app.refresh();
      },
    });
  }

  #delete(each) {
    openDialog({
      title: `Delete ${each.name}?`,
      text: "Its runs go with it; what it has published stays.",
      action: "Delete schedule",
      danger: true,
      submit: async () => {
        await ask("DELETE", this.base + path`/${each.id}`);
        this.#runs.delete(each.id);
        notice(`Schedule ${each.name} was deleted.`);
        this.app.refresh();
      },
    });
  }
}

const KINDS = { completed: "processed", running: "leased", skipped: "paused", failed: "dead" };

function runList(topic, runs, now) {
  if (!runs.length) return h("p", { class: "quiet" }, "It has not run yet.");
  return h(
    "ol",
    { class: "runs" },
    runs.map((each) =>
      h(
        "li",
        { key: each.id },
        badge(each.status, KINDS[each.status]),
        " ",
        moment(Date.parse(each.scheduled_for), now),
        each.message_id && [" ", h("a", { href: messageLink(topic, each.message_id) }, "its message")],
        each.error && h("bdi", { class: "quiet" }, ` ${each.error}`),
      ),
    ),
  );
}
