// A test message.

import { ask, path } from "./api.js";
import { openDialog } from "./dialog.js";
import { messageLink } from "./links.js";
import { notice } from "./notices.js";

export function openPublish(app, topic) {
  openDialog({
    title: `Publish to ${topic}`,
    fields: [
      { name: "message", label: "Message", kind: "textarea", hint: "Text, up to 1 MiB." },
      {
        name: "headers",
        label: "Headers",
        kind: "textarea",
        rows: 2,
        placeholder: "content-type: application/json",
        hint: "One a line: a name, a colon, a value.",
      },
      {
        name: "delay",
        label: "Delay",
        placeholder: "none",
        hint: "30s, 5m, 1h: when it can be handed out.",
      },
      { name: "priority", label: "Priority", kind: "number", min: -1000, max: 1000, value: 0 },
      { name: "correlation_id", label: "Correlation id", maxlength: 255 },
    ],
    action: "Publish",
    submit: async (given) => {
      const body = {
        message: given.message,
        headers: headersOf(given.headers),
        priority: Number(given.priority),
        delay: given.delay.trim() || undefined,
        correlation_id: given.correlation_id || undefined,
      };
      const receipt = await ask(
        "POST",
        `${path`/v1/topics/${topic}/messages`}?wait_for=commit`,
        body,
      );
      notice("The message was published.");
      app.go(messageLink(topic, receipt.message_id));
    },
  });
}

function headersOf(text) {
  const lines = text.split("\n").filter((each) => each.trim());
  const pairs = lines.map((line) => {
    const colon = line.indexOf(":");
    if (colon < 1) throw new Error(`“${line}” is no header: there is no colon after a name.`);
    return [line.slice(0, colon).trim(), line.slice(colon + 1).trim()];
  });
  return pairs.length ? Object.fromEntries(pairs) : undefined;
}
