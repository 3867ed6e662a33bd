// Small charts of what this page has seen, five minutes at most. A chart's numbers are in its
// label, too, for who hears it.

import { h } from "./dom.js";
import { compact } from "./format.js";
import { GAP_MS } from "./history.js";

const WIDTH = 240;
const HEIGHT = 48;
// What is drawn at least; it grows with what is known.
const SPAN_MS_MIN = 60_000;

function stretches(points) {
  const found = [];
  points.forEach((point, index) => {
    const before = points[index - 1];
    if (!before || point.at - before.at > GAP_MS) found.push([]);
    found.at(-1).push(point);
  });
  return found;
}

function line(points, place) {
  const drawn = points.map((each, index) => `${index ? "L" : "M"}${place(each)}`).join("");
  return points.length > 1 ? drawn : `${drawn}h0.01`; // a dot
}

/** Draw series of points, each `{kind, points}`; the first one is filled. */
export function chart(label, series) {
  const all = series.flatMap((each) => each.points);
  const end = Math.max(...all.map((each) => each.at), 0);
  const start = Math.min(end - SPAN_MS_MIN, ...all.map((each) => each.at));
  const top = Math.max(...all.map((each) => each.value), 0);
  const x = (at) => ((WIDTH * (at - start)) / (end - start)).toFixed(1);
  const y = (value) => (HEIGHT - 1 - (top ? (HEIGHT - 4) * (value / top) : 0)).toFixed(1);
  const place = ({ at, value }) => `${x(at)} ${y(value)}`;
  const paths = series.flatMap(({ kind, points }, index) =>
    stretches(points).map((part) => {
      const drawn = line(part, place);
      const foot = `L${x(part.at(-1).at)} ${HEIGHT}L${x(part[0].at)} ${HEIGHT}Z`;
      return h(
        "g",
        { class: `series ${kind}` },
        index === 0 && part.length > 1 && h("path", { class: "fill", d: drawn + foot }),
        h("path", { class: "line", d: drawn }),
      );
    }),
  );
  const rounded = (value) => compact(Math.round(value * 10) / 10);
  const said = series.map(({ points }) => rounded(points.at(-1)?.value ?? 0)).join(" and ");
  return h(
    "svg",
    {
      class: "chart",
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
      preserveAspectRatio: "none",
      role: "img",
      "aria-label": `${label}, lately: now ${said}, at most ${rounded(top)}`,
    },
    h("path", { class: "floor", d: `M0 ${HEIGHT - 0.5}H${WIDTH}` }),
    paths,
  );
}
