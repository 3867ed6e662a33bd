// One request every two seconds, and only while somebody can see the page. After a failure
// the pauses grow, so that a server in trouble is not asked by all its pages at once.

const PAUSE_MS = 2_000;
const PAUSE_MS_MAX = 30_000;

export class Poll {
  #look;
  #timer = 0;
  #failures = 0;
  #abort = null;

  /** `look(signal)` asks once; it returns after which pause to ask again if that went wrong. */
  constructor(look) {
    this.#look = look;
    document.addEventListener("visibilitychange", () => this.#seen());
    addEventListener("online", () => this.soon());
  }

  /** Ask at once; what is under way is not waited for. */
  async soon() {
    clearTimeout(this.#timer);
    this.#abort?.abort();
    const abort = new AbortController();
    this.#abort = abort;
    const failed = await this.#look(abort.signal);
    if (this.#abort !== abort) return; // somebody else asks already
    this.#abort = null;
    this.#failures = failed ? this.#failures + 1 : 0;
    if (document.hidden || failed?.stop) return;
    const grown =
      Math.min(PAUSE_MS * 2 ** this.#failures, PAUSE_MS_MAX) * (0.8 + Math.random() / 5);
    const pause = failed ? Math.max(grown, 1_000 * (failed.retryAfterS ?? 0)) : PAUSE_MS;
    this.#timer = setTimeout(() => this.soon(), pause);
  }

  #seen() {
    if (document.hidden) clearTimeout(this.#timer);
    else this.soon();
  }
}
