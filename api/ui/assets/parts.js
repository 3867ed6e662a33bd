// What several views are made of.

import { chart } from "./chart.js";
import { h } from "./dom.js";
import { compact, number, rate, relative, span, time } from "./format.js";
import { rates, values } from "./history.js";

/** A name that somebody else chose: set apart, so that its letters cannot reorder the rest. */
export const name = (text) => h("bdi", { class: "name" }, text);

export const badge = (text, kind = text) => h("span", { class: `badge ${kind}` }, text);

/** A badge after a name, if it `is` so; apart from it for who hears or copies it. */
export const mark = (is, text, kind) => (is ? h("span", null, " ", badge(text, kind)) : null);

/** A count that only matters if it is not zero. */
export function count(value, kind = "") {
  return h("span", { class: value ? kind : "zero", title: number(value) }, compact(value));
}

export function moment(ms, now) {
  return h("time", { datetime: new Date(ms).toISOString(), title: time(ms) }, relative(ms, now));
}

/** How long ago something was, where its being there is the bad news. */
export function age(ms, now) {
  if (ms === null || ms === undefined) return h("span", { class: "zero" }, "–");
  return h("time", { datetime: new Date(ms).toISOString(), title: time(ms) }, span(now - ms));
}

function tile(label, shown, drawn, more) {
  return h(
    "section",
    { class: "tile" },
    h("h2", null, label),
    h("p", { class: "figure" }, shown),
    drawn,
    more,
  );
}

function counter(key, label, member, value, kind, more) {
  const drawn = chart(label, [{ kind, points: values(key, member) }]);
  const shown = h("span", { class: value ? kind : "zero", title: number(value) }, compact(value));
  return tile(label, shown, drawn, more);
}

/** The counters of something with their last minutes; `key` names its history. */
export function tiles(key, total, oldest, now) {
  const [published, done] = [rates(key, "published"), rates(key, "done")];
  const each = (kind, points) => h("span", { class: kind }, rate(points.at(-1)?.value));
  const flow = [
    { kind: "published", points: published },
    { kind: "done", points: done },
  ];
  const old = oldest !== undefined && h("small", null, "oldest: ", age(oldest, now));
  return h(
    "div",
    { class: "tiles" },
    counter(key, "Waiting", "pending", total.pending, "pending", old),
    counter(key, "Of these, delayed", "waiting", total.waiting, "waiting"),
    counter(key, "In flight", "leased", total.leased, "leased"),
    counter(key, "Dead letters", "dead", total.dead, "dead"),
    tile(
      "Published / done, per s",
      [each("published", published), h("span", { class: "quiet" }, " / "), each("done", done)],
      chart("Published and done per second", flow),
    ),
  );
}

/** A table that scrolls by itself where the page is too narrow. */
export function table(label, heads, rows, empty) {
  if (!rows.length) return h("p", { class: "panel empty" }, empty);
  return h(
    "div",
    { class: "scroll", role: "region", "aria-label": label, tabindex: "0" },
    h(
      "table",
      null,
      h("caption", null, label),
      h(
        "thead",
        null,
        h(
          "tr",
          null,
          heads.map((each) => (each.tag ? each : head(each))),
        ),
      ),
      h("tbody", null, rows),
    ),
  );
}

/** A column's head; by those with an `order` the list can be sorted. */
export function head(text, { order, list, kind = "" } = {}) {
  if (!order) return h("th", { scope: "col", class: kind }, text);
  const sorted = list.order === order;
  const direction = order === "name" ? "ascending" : "descending";
  return h(
    "th",
    { scope: "col", class: kind, "aria-sort": sorted ? direction : "none" },
    h("button", { class: "sort", type: "button", onclick: () => list.sort(order) }, text),
  );
}

/** A list that is searched, sorted and read page by page. */
export class List {
  search = "";
  order = "name";
  offset = 0;
  limit = 50;
  #timer = 0;

  constructor(changed) {
    this.changed = changed;
  }

  get asked() {
    const { search, order, offset, limit } = this;
    return { search, order, offset: offset || "", limit };
  }

  sort(order) {
    Object.assign(this, { order, offset: 0 });
    this.changed();
  }

  #searched(text) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      Object.assign(this, { search: text, offset: 0 });
      this.changed();
    }, 200);
  }

  box(label) {
    return h(
      "label",
      { class: "search" },
      h("span", { class: "hidden" }, label),
      h("input", {
        type: "search",
        placeholder: label,
        value: this.search,
        spellcheck: "false",
        oninput: (event) => this.#searched(event.target.value),
      }),
    );
  }

  /** Note where the page is that was found; the one that was asked for may be gone. */
  took({ offset }) {
    this.offset = offset;
  }

  pager({ found, offset }, what) {
    const last = Math.min(offset + this.limit, found);
    const go = (offset) => () => {
      this.offset = offset;
      this.changed();
    };
    return h(
      "nav",
      { class: "pager", "aria-label": `Pages of ${what}` },
      h(
        "span",
        null,
        found ? `${number(offset + 1)}–${number(last)} of ${number(found)} ${what}` : `no ${what}`,
      ),
      found > this.limit && [
        h(
          "button",
          { type: "button", disabled: !offset, onclick: go(Math.max(0, offset - this.limit)) },
          "Previous",
        ),
        h(
          "button",
          { type: "button", disabled: last >= found, onclick: go(offset + this.limit) },
          "Next",
        ),
      ],
    );
  }
}

/** A list that is read page by page from where the one before has ended. */
export class Pages {
  #cursors = [""];

  constructor(changed) {
    this.changed = changed;
  }

  /** Where the page that is shown begins. */
  get cursor() {
    return this.#cursors.at(-1);
  }

  /** `words(page)` says what is shown; nothing is needed where one page has it all. */
  pager(next, what, words = (page) => `Page ${page}`) {
    const page = this.#cursors.length;
    if (page === 1 && !next) return null;
    const go = (change) => () => {
      change();
      this.changed();
    };
    const back = go(() => this.#cursors.pop());
    const on = go(() => this.#cursors.push(next));
    return h(
      "nav",
      { class: "pager", "aria-label": `Pages of ${what}` },
      h("span", null, words(page)),
      h("button", { type: "button", disabled: page === 1, onclick: back }, "Previous"),
      h("button", { type: "button", disabled: !next, onclick: on }, "Next"),
    );
  }
}

export function button(text, onclick, kind = "") {
  return h("button", { type: "button", class: kind, onclick }, text);
}

/** Views of one thing, of which one is shown. */
export function tabs(label, links) {
  return h(
    "nav",
    { class: "tabs", "aria-label": label },
    links.map(([text, href, current]) =>
      h("a", { href, "aria-current": current ? "page" : null }, text),
    ),
  );
}

export const loading = () => h("p", { class: "panel empty", "aria-busy": "true" }, "Loading…");
