// The options of a subscriber: as a form, and in words.

import { span } from "./format.js";

export function optionFields() {
  return [
    {
      name: "max_attempts",
      label: "Attempts",
      kind: "number",
      min: 1,
      value: 3,
      hint: "After so many failures a message is a dead letter.",
    },
    {
      name: "visibility",
      label: "Lease",
      value: "5m",
      hint: "How long a consumer may take for a message: 30s, 5m, 1h.",
    },
  ];
}

export function optionsOf({ max_attempts, visibility }) {
  return { max_attempts: Number(max_attempts), visibility_duration: visibility };
}

/** Say what a subscriber's options are. */
export function optionWords(about) {
  const [first, most] = [span(about.retry_initial_ms), span(about.retry_max_ms)];
  const retries = `first after ${first}, then ×${about.retry_multiplier}, at most ${most}`;
  return [
    ["Attempts", String(about.max_attempts)],
    ["Lease", span(about.visibility_ms)],
    ["Retries", retries],
  ];
}
