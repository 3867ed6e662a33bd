// A message's bytes in the ways that people read them: as JSON, as text, as numbers.

const DEPTH_MAX = 40;
// Short tokens deep inside become long lines, and a page has to hold them all.
const LAID_CHARS_MAX = 8_388_608;

/** Return `{bytes, text, json}` of a payload; text is null if it is none, json likewise. */
export function readPayload({ text, base64 }) {
  const bytes =
    text === undefined
      ? Uint8Array.from(atob(base64), (each) => each.charCodeAt(0))
      : new TextEncoder().encode(text);
  const words = text ?? decoded(bytes);
  return { bytes, text: words, json: words === null ? null : prettyJson(words) };
}

function decoded(bytes) {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return null;
  }
}

/** Lay JSON out without touching its numbers and strings; null if it is none. */
export function prettyJson(text) {
  try {
    const value = JSON.parse(text);
    if (value === null || typeof value !== "object") return null;
  } catch {
    return null;
  }
  const tokens = text.match(/"[^"\\]*(?:\\.[^"\\]*)*"|[[\]{},:]|[^\s[\]{},:"]+/g);
  let depth = 0;
  let laid = "";
  const newline = () => `\n${"  ".repeat(depth)}`;
  for (const [index, token] of tokens.entries()) {
    if (token === "{" || token === "[") {
      depth += 1;
      if (depth > DEPTH_MAX) return null;
      laid += token;
      if (!closes(tokens[index + 1])) laid += newline();
    } else if (closes(token)) {
      depth -= 1;
      laid += opens(tokens[index - 1]) ? token : newline() + token;
    } else if (token === ",") laid += token + newline();
    else if (token === ":") laid += ": ";
    else laid += token;
    if (laid.length > LAID_CHARS_MAX) return null;
  }
  return laid;
}

const opens = (token) => token === "{" || token === "[";
const closes = (token) => token === "}" || token === "]";

/** Return bytes as lines of sixteen: where, the bytes, and what of them can be printed. */
export function hex(bytes) {
  const lines = [];
  for (let at = 0; at < bytes.length; at += 16) {
    const part = [...bytes.subarray(at, at + 16)];
    const numbers = part.map((each) => each.toString(16).padStart(2, "0"));
    const left = numbers.slice(0, 8).join(" ").padEnd(23);
    const right = numbers.slice(8).join(" ").padEnd(23);
    const letters = part.map((each) => (each > 31 && each < 127 ? String.fromCharCode(each) : "."));
    lines.push(`${at.toString(16).padStart(8, "0")}  ${left}  ${right}  ${letters.join("")}`);
  }
  return lines.join("\n");
}
