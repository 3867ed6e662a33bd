// Which view is shown, how it stays true, and what is said while it cannot.

import { ApiError, hasToken, Look, setToken } from "./api.js";
import { h, render } from "./dom.js";
import { Message } from "./message.js";
import { notice } from "./notices.js";
import { button, name } from "./parts.js";
import { Poll } from "./poll.js";
import { Schedules } from "./schedules.js";
import { Subscriber } from "./subscriber.js";
import { Topic } from "./topic.js";
import { oneTopic, Topics } from "./topics.js";

const ROUTES = [
  [/^#?\/?$/, Topics],
  [/^#\/topics\/([^/]+)$/, Topic],
  [/^#\/topics\/([^/]+)\/schedules$/, Schedules],
  [/^#\/topics\/([^/]+)\/subscribers\/([^/]+)(\/dead)?$/, Subscriber],
  [/^#\/topics\/([^/]+)\/messages\/([^/]+)$/, Message],
];

const at = (id) => document.getElementById(id);

class App {
  #view = null;
  #look = new Look();
  #data = null;
  #now = 0;
  #failure = null;
  #poll = new Poll((signal) => this.#ask(signal));

  start() {
    addEventListener("hashchange", () => this.#route(true));
    document.querySelector(".skip").onclick = (event) => {
      event.preventDefault(); // its address would be no view's
      at("main").focus();
    };
    addEventListener("unhandledrejection", ({ reason }) => {
      notice(`This page has met a fault of its own: ${reason}. Load it anew.`, "bad");
    });
    this.#route(false);
  }

  go(href) {
    location.hash = href;
  }

  /** Ask the server anew: something was done, or something else is wanted. */
  refresh() {
    this.draw();
    this.#poll.soon();
  }

  draw() {
    const view = this.#view;
    const failure = this.#failure;
    document.title = view.title === "BlockQueue" ? view.title : `${view.title} – BlockQueue`;
    render(at("crumbs"), crumbs(view.crumbs));
    render(at("status"), status(this));
    render(at("main"), this.#main(view, failure));
    render(at("banner"), failure && !isAbout(failure) && lost(failure, this.#data));
  }

  #main(view, failure) {
    if (failure?.status === 401) return tokenForm(this, failure);
    if (failure?.status === 403 && view instanceof Topics) return oneTopic(this, failure.message);
    if (failure && isAbout(failure)) return refused(failure);
    return view.render(this.#data, this.#now);
  }

  get isLive() {
    return this.#data !== null && this.#failure === null;
  }

  /** Use another token, or none. */
  identify(token) {
    setToken(token);
    this.#look = new Look();
    this.#data = this.#failure = null;
    this.refresh();
  }

  #route(moved) {
    const here = location.hash;
    const [pattern, View] = ROUTES.find(([each]) => each.test(here)) ?? ROUTES[0];
    let names;
    try {
      names = (here.match(pattern) ?? []).slice(1).map((each) => each && decodeURIComponent(each));
    } catch {
      names = [];
    }
    this.#view = new (names.length || View === Topics ? View : Topics)(this, ...names);
    this.#look = new Look();
    this.#data = this.#failure = null;
    this.refresh();
    if (moved) (at("main").querySelector("h1") ?? at("main")).focus({ preventScroll: true });
    scrollTo(0, 0);
  }

  /** Ask once; return the failure, if it is one. */
  async #ask(signal) {
    const view = this.#view;
    try {
      const { data, now } = await this.#look.at(view.path, signal);
      if (view !== this.#view || signal.aborted) return null;
      [this.#data, this.#now, this.#failure] = [data, now, null];
      view.took?.(data, now);
      this.draw();
      return null;
    } catch (error) {
      if (signal.aborted || view !== this.#view) return null;
      if (!(error instanceof ApiError)) throw error;
      this.#failure = error;
      this.draw();
      return { stop: error.status === 401, retryAfterS: error.retryAfterS };
    }
  }
}

// These are about what was asked for; whatever else goes wrong will pass.
const isAbout = (failure) => [400, 401, 403, 404].includes(failure.status);

function crumbs(listed) {
  const links = listed.map(([text, href]) =>
    h(
      "li",
      null,
      href ? h("a", { href }, name(text)) : h("span", { "aria-current": "page" }, name(text)),
    ),
  );
  return listed.length > 0 && h("ol", null, h("li", null, h("a", { href: "#/" }, "Topics")), links);
}

function status(app) {
  const text = app.isLive ? "live" : "not live";
  return [
    h("span", { class: `live ${app.isLive ? "on" : "off"}` }, text),
    hasToken() && button("Forget token", () => app.identify(null)),
  ];
}

function lost(failure, data) {
  const stale = data ? " What is shown is how it was before." : "";
  return h("p", null, h("strong", null, failure.message), `${stale} Trying again…`);
}

function refused(failure) {
  return h(
    "div",
    { class: "panel narrow" },
    h(
      "h1",
      { tabindex: "-1" },
      failure.status === 404 ? "It is not there" : "That cannot be shown",
    ),
    h("p", null, `${failure.message}.`),
    failure.status === 404 &&
      h("p", null, "It may have been deleted. If it comes back, it is shown here."),
    h("p", null, h("a", { href: "#/" }, "All topics")),
  );
}

function tokenForm(app, failure) {
  const submit = (event) => {
    event.preventDefault();
    app.identify(new FormData(event.target).get("token").trim());
  };
  return h(
    "form",
    { class: "panel narrow", onsubmit: submit },
    h("h1", { tabindex: "-1" }, "A token, please"),
    h(
      "p",
      null,
      "This server answers only who shows a token. It is kept until this tab is closed.",
    ),
    h("label", { for: "token" }, "Token"),
    h("input", {
      id: "token",
      name: "token",
      type: "password",
      required: true,
      autocomplete: "off",
      spellcheck: "false",
    }),
    hasToken() && h("p", { class: "error", role: "alert" }, `${failure.message}.`),
    h("button", { class: "primary" }, "Use it"),
  );
}

new App().start();
