// What the counters were in the last minutes, as this page has seen them. Bounded: of each
// series the last samples, and only as many series as a few pages of lists have.

export const WINDOW_MS = 300_000;
const SERIES_MAX = 400;
// Over so much time a rate is an average; less would jump between two polls.
const RATE_MS = 10_000;
// A longer silence (a hidden page, a lost server) is a gap and no line.
export const GAP_MS = 15_000;

const known = new Map();

/** Note what the counters of `key` are now. */
export function note(key, at, counters) {
  const samples = known.get(key) ?? [];
  known.delete(key);
  known.set(key, samples); // the one that was noted the longest ago comes first
  if (at < samples.at(-1)?.at) samples.length = 0; // the clock was set
  if (at === samples.at(-1)?.at) samples.pop(); // two views have asked at once
  samples.push({ at, ...counters });
  while (samples[0].at < at - WINDOW_MS) samples.shift();
  if (known.size > SERIES_MAX) known.delete(known.keys().next().value);
}

/** Return a counter's values over time. */
export function values(key, name) {
  return (known.get(key) ?? []).map((each) => ({ at: each.at, value: each[name] }));
}

/** Return by how much a counter rose a second, over time. */
export function rates(key, name) {
  const samples = known.get(key) ?? [];
  const found = [];
  let first = 0;
  for (let last = 1; last < samples.length; last++) {
    if (samples[last].at - samples[last - 1].at > GAP_MS) first = last;
    while (samples[last].at - samples[first].at > RATE_MS) first++;
    if (first === last) continue;
    const rise = samples[last][name] - samples[first][name];
    const seconds = (samples[last].at - samples[first].at) / 1_000;
    found.push({ at: samples[last].at, value: Math.max(0, rise / seconds) });
  }
  return found;
}
