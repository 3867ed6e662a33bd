// The schedules of a topic, and their last runs.

import { ask, path, query } from "./api.js";
import { h } from "./dom.js";
import { openDialog } from "./dialog.js";
import { messageLink, topicLink } from "./links.js";
import { time } from "./format.js";
import { notice } from "./notices.js";
import { badge, button, head, loading, mark, moment, name, Pages, table } from "./parts.js";
import { preview } from "./subscriber.js";
import { topicTabs, topicTitle, tried } from "./topic.js";

export class Schedules {
  #open = new Set();

  constructor(app, topic) {
    this.app = app;
    this.topic = topic;
    this.title = `Schedules of ${topic}`;
    this.crumbs = [[topic, topicLink(topic)], ["Schedules"]];
    this.base = path`/v1/topics/${topic}/schedules`;
    this.pages = new Pages(() => app.refresh());
  }

  get path() {
    const asked = { limit: 50, cursor: this.pages.cursor, open: [...this.#open].join(",") };
    return path`/ui/api/topics/${this.topic}/schedules` + query(asked);
  }

  render(data, now) {
    const heads = [
      "Schedule",
      "Cron",
      "Next run",
      "Message",
      head("Actions", { kind: "row-actions" }),
    ];
    const empty =
      "No schedules. One publishes its message again and again, as a cron expression says.";
    return [
      topicTitle(this.app, this.topic, data?.topic_paused),
      topicTabs(this.topic, "schedules"),
      h(
        "div",
        { class: "toolbar" },
        button("New schedule", () => this.#create()),
      ),
      data
        ? table(
            "Schedules",
            heads,
            data.items.flatMap((each) => this.#row(each, now)),
            empty,
          )
        : loading(),
      data && this.pages.pager(data.next_cursor, "schedules"),
    ];
  }

  #row(each, now) {
    const open = this.#open.has(each.id);
    const toggle = button(open ? "Hide runs" : "Runs", () => this.#toggle(each.id));
    toggle.props["aria-expanded"] = String(open);
    return [
      h(
        "tr",
        { key: each.id },
        h("th", { scope: "row" }, name(each.name), mark(each.paused, "paused")),
        h("td", null, h("code", null, each.cron), " ", h("small", null, each.timezone)),
        h(
          "td",
          null,
          each.paused ? "–" : [time(each.next_run_ms), " (", moment(each.next_run_ms, now), ")"],
        ),
        h("td", { class: "preview" }, preview(each)),
        h(
          "td",
          { class: "row-actions" },
          toggle,
          button("Run now", () => this.#do(each, "run-now")),
          button(each.paused ? "Resume" : "Pause", () =>
            this.#do(each, each.paused ? "resume" : "pause"),
          ),
          button("Delete", () => this.#delete(each), "danger"),
        ),
      ),
      each.runs &&
        open &&
        h(
          "tr",
          { key: `runs of ${each.id}` },
          h("td", { colspan: "5" }, runList(this.topic, each.runs, now)),
        ),
    ];
  }

  async #do(each, verb) {
    await tried(async () => {
      const done = await ask("POST", this.base + path`/${each.id}/` + verb);
      if (verb !== "run-now") notice(`${each.name} ${verb === "pause" ? "is paused" : "goes on"}.`);
      else if (done.status === "skipped")
        notice(`${each.name} was skipped: its last run is not finished.`, "bad");
      else notice(`${each.name} has published its message.`);
    });
    this.app.refresh();
  }

  #toggle(id) {
    if (!this.#open.delete(id)) this.#open.add(id);
    this.app.refresh();
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
        this.#open.delete(each.id);
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
        moment(each.scheduled_ms, now),
        each.message_id && [
          " ",
          h("a", { href: messageLink(topic, each.message_id) }, "its message"),
        ],
        each.error && h("bdi", { class: "quiet" }, ` ${each.error}`),
      ),
    ),
  );
}
