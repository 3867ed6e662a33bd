// What has been done, said once, and read aloud.

const SHOWN_MS = 6_000;
const BAD_SHOWN_MS = 20_000;

/** Show a short sentence for a while. */
export function notice(text, kind = "good") {
  const line = document.createElement("p");
  line.className = kind;
  line.textContent = text;
  document.getElementById("notices").append(line);
  setTimeout(() => line.remove(), kind === "bad" ? BAD_SHOWN_MS : SHOWN_MS);
}
