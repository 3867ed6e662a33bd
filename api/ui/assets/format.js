// Numbers, times and sizes as people read them.

const whole = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const fine = new Intl.NumberFormat("en", { maximumSignificantDigits: 2 });
const moment = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });

export const number = (value) => whole.format(value);

/** A number that must fit into a small place. */
export const compact = (value) => (value < 10_000 ? whole : short).format(value);

/** So many a second. */
export function rate(value) {
  if (value === undefined) return "–";
  if (value < 0.05) return "0";
  return value < 10 ? fine.format(value) : compact(Math.round(value));
}

const UNITS = [
  ["d", 86_400_000],
  ["h", 3_600_000],
  ["m", 60_000],
  ["s", 1_000],
];

/** A duration in its two largest units: "3d 4h", "12s". */
export function span(ms) {
  if (ms < 1_000) return ms <= 0 ? "0s" : `${Math.round(ms)}ms`;
  const at = UNITS.findIndex(([, size]) => ms >= size);
  const [unit, size] = UNITS[at];
  const count = Math.floor(ms / size);
  const rest = UNITS[at + 1];
  const more = rest && count < 10 ? Math.floor((ms % size) / rest[1]) : 0;
  return more ? `${count}${unit} ${more}${rest[0]}` : `${count}${unit}`;
}

export const time = (ms) => moment.format(ms);

/** How far a time is from now, either way. */
export function relative(ms, now) {
  if (Math.abs(ms - now) < 1_000) return "now";
  return ms < now ? `${span(now - ms)} ago` : `in ${span(ms - now)}`;
}

export function bytes(count) {
  if (count < 1_024) return `${count} B`;
  const units = count < 1_048_576 ? [1_024, "KiB"] : [1_048_576, "MiB"];
  return `${(count / units[0]).toFixed(1)} ${units[1]}`;
}
