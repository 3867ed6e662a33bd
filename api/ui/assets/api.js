// Requests to the server that this page is from. The token is kept by this tab alone, and
// forgotten with it.

const TOKEN = "blockqueue.token";
const PATIENCE_MS = 15_000;

/** An answer that is no success; status 0: there was none. */
export class ApiError extends Error {
  constructor(status, text, retryAfterS = 0) {
    super(text);
    this.status = status;
    this.retryAfterS = retryAfterS;
  }
}

export function hasToken() {
  return sessionStorage.getItem(TOKEN) !== null;
}

export function setToken(token) {
  if (token) sessionStorage.setItem(TOKEN, token);
  else sessionStorage.removeItem(TOKEN);
}

/** Put names into a path, whatever is in them. */
export function path(strings, ...names) {
  return String.raw({ raw: strings }, ...names.map(encodeURIComponent));
}

/** Return a query of what is given. */
export function query(members) {
  const given = Object.entries(members).filter(([, value]) => value || value === 0);
  const text = new URLSearchParams(given).toString();
  return text && `?${text}`;
}

async function send(method, where, { body, headers = {}, signal } = {}) {
  const token = sessionStorage.getItem(TOKEN);
  if (token) headers.Authorization = `Bearer ${token}`;
  const timeout = AbortSignal.timeout(PATIENCE_MS);
  try {
    return await fetch(where, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store",
      credentials: "omit",
      redirect: "error",
      signal: signal ? AbortSignal.any([signal, timeout]) : timeout,
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0, "The server cannot be reached.");
  }
}

async function refusal(response) {
  let said = {};
  try {
    said = await response.json();
  } catch {
    // a proxy's page, or nothing
  }
  const text = said.detail ?? said.error ?? `The server answered ${response.status}.`;
  return new ApiError(response.status, text, Number(response.headers.get("Retry-After")) || 0);
}

/** Do something. Returns the answer's data, if it has any. */
export async function ask(method, where, body) {
  const response = await send(method, where, { body });
  if (!response.ok) throw await refusal(response);
  if (response.status === 204) return null;
  return (await response.json()).data;
}

/** Look at something again and again: what has not changed is not sent again. */
export class Look {
  #where = null;
  #etag = null;
  #data = null;

  /** Return the data, and what time it is for the server. */
  async at(where, signal) {
    if (where !== this.#where) this.#etag = null;
    const headers = this.#etag ? { "If-None-Match": this.#etag } : {};
    const response = await send("GET", where, { headers, signal });
    if (response.status !== 304) {
      if (!response.ok) throw await refusal(response);
      this.#data = await response.json();
      this.#etag = response.headers.get("ETag");
      this.#where = where;
    }
    const now = Number(response.headers.get("X-BlockQueue-Now")) || Date.now();
    return { data: this.#data, now };
  }
}
