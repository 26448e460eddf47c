// What the page knows of the keys: delivered with the page, kept current by the
// server's stream, fetched again after a change.

import { $, all, put } from "./dom.js";

export const page = JSON.parse($("#page").textContent);
export const state = { pools: {}, covered: [], ...page.state };

// skew is how far the server's clock is ahead of this browser's.
let skew = state.now ? state.now - Date.now() : 0;
export const now = () => Date.now() + skew;

export const pool = (id) => state.pools[id] ?? { keys: [], next: -1 };

const listeners = [];
// onChange calls f with the IDs of the keys that have served since the last
// call.
export const onChange = (f) => listeners.push(f);

function adopt({ pools, whole, ...rest }) {
  skew = rest.now - Date.now();
  const served = new Set();
  for (const [id, after] of Object.entries(pools)) {
    const before = new Map(pool(id).keys.map((key) => [key.id, key.served ?? 0]));
    for (const key of after?.keys ?? []) {
      if (before.has(key.id) && (key.served ?? 0) > before.get(key.id)) served.add(key.id);
    }
    if (after) state.pools[id] = after;
    else delete state.pools[id];
  }
  if (whole) for (const id of Object.keys(state.pools)) if (!pools[id]) delete state.pools[id];
  Object.assign(state, rest);
  for (const f of listeners) f(served);
}

// Refusal is an answer that is no success, or none at all.
export class Refusal extends Error {
  constructor(status, text, field) {
    super(text);
    this.status = status;
    this.field = field; // that was refused, where it is one
  }
}

// limit is how long a response may take.
export const limit = () => AbortSignal.timeout(30000);

// call sends a request to this server and returns the JSON of the answer.
export async function call(method, path, body, signal) {
  let answer;
  try {
    answer = await fetch(path, {
      method,
      signal: AbortSignal.any([limit(), ...(signal ? [signal] : [])]),
      headers: body ? { "Content-Type": "application/json" } : {},
      body: body && JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal(0, method === "GET" ? "No response from the server."
      : "No response from the server. It may have made the change or not: close this dialog and look at the keys before you try again.");
  }
  const said = await answer.json().catch(() => ({}));
  if (answer.ok) return said;
  throw new Refusal(answer.status, explain(answer, said), said.details?.[0]?.path?.[0]);
}

function explain(answer, said) {
  const id = answer.headers.get("x-request-id");
  switch (true) {
    case answer.status === 401:
      return "You are signed out. Sign in, then try again here.";
    case Array.isArray(said.details):
      return said.details.map((issue) => issue.message).join(". ") + ".";
    case answer.status >= 500:
      return `${said.error ?? "The server failed"} (status ${answer.status}${id ? `, request ${id}` : ""}).`;
  }
  return `${said.error ?? `The server refused this with status ${answer.status}`}.`;
}

// signIn is the sign-in page that leads back here.
export const signIn = () => "/login?next=" + encodeURIComponent(location.pathname + location.search);

// signInLink opens that page beside this one, so that what was typed stays.
export function signInLink() {
  const link = document.createElement("a");
  link.href = signIn();
  link.target = "_blank";
  link.rel = "noopener";
  link.textContent = "Sign in (new tab)";
  return link;
}

export async function refresh() {
  adopt(await call("GET", page.base + "/state" + page.query));
  if (!watching || source) return; // there is a server again
  clearTimeout(waiting);
  connect();
}

// The stream. While it is away the page says so, and tries again.
let source, waiting, delay, overdue, watching;
let failures = 0; // of the stream alone, one after the other
let live = false;
// isLive reports whether changes arrive as they happen.
export const isLive = () => live;

function setLive(yes) {
  if (live === yes) return;
  live = yes;
  for (const f of listeners) f(new Set());
}

// expect waits for the next event. A server that hangs, and a network that is
// gone, end no connection.
function expect() {
  clearTimeout(overdue);
  overdue = setTimeout(() => {
    say(new Refusal(0));
    lose();
  }, 3 * page.beat);
}

function lose() {
  disconnect();
  failures++;
  again();
}

function disconnect() {
  clearTimeout(overdue);
  source?.close();
  source = undefined;
  setLive(false);
}

function connect() {
  source?.close();
  source = new EventSource(page.base + "/events" + page.query);
  expect();
  source.addEventListener("unchanged", expect);
  source.addEventListener("state", (event) => {
    expect();
    delay = failures = 0;
    say();
    setLive(true);
    const next = JSON.parse(event.data);
    // An event that was on its way during a refresh may be older than that.
    if (next.now < state.now) refresh().catch(() => {});
    else adopt(next);
  });
  source.onerror = lose;
}

function again() {
  clearTimeout(waiting);
  waiting = setTimeout(async () => {
    try {
      await refresh(); // says why the stream ended
      if (failures > 1) say(new Refusal(streamOnly));
    } catch (refusal) {
      failures = 0;
      if (refusal.status === 403) {
        Object.assign(state, { can: undefined, pools: {} });
        for (const f of listeners) f(new Set());
      }
      say(refusal);
      again();
    }
  }, delay);
  delay = Math.min(15000, 2 * delay || 500);
}

const notice = $("#offline");
// streamOnly stands for the status that an EventSource does not tell.
const streamOnly = "stream";

// place puts the notice where it is seen: everything behind an open dialog is
// covered and inert. In a dialog its link opens a new tab, so that what was
// typed stays.
function place() {
  const dialog = all("dialog[open]").at(-1);
  const host = dialog ?? $("#main");
  if (notice.parentElement !== host) host.prepend(notice);
  const link = $("a", notice);
  link.target = dialog ? "_blank" : "";
  link.rel = dialog ? "noopener" : "";
  put(link, dialog ? "Sign in (new tab)" : "Sign in");
}
document.addEventListener("toggle", (event) => event.target.matches("dialog") && place(), true);

function say(refusal) {
  place();
  if (!refusal) {
    notice.hidden = true;
    return;
  }
  const link = $("a", notice);
  link.hidden = true;
  let text = "No connection to the server. What you see may be out of date. The page tries again.";
  if (refusal.status === 401) {
    text = "You are signed out. What you see may be out of date.";
    link.hidden = false;
    link.href = signIn();
  } else if (refusal.status === 403) {
    text = "You no longer have access to these keys.";
  } else if (refusal.status === streamOnly) {
    text = "No live updates: too many pages may be open. The page asks for changes every few seconds.";
  } else if (refusal.status) {
    text = "The server cannot read its keys right now. What you see may be out of date. The page tries again.";
  }
  if ($("p", notice).textContent !== text) $("p", notice).textContent = text;
  notice.hidden = false;
}

// watch follows the stream while the page is looked at. A browser opens few
// connections to one server, so a hidden page gives its own back.
export function watch() {
  delay = 0;
  watching = true;
  connect();
  document.addEventListener("visibilitychange", () => {
    watching = !document.hidden;
    if (document.hidden) {
      disconnect();
      clearTimeout(waiting);
    } else if (!source) {
      delay = 0;
      again();
    }
  });
}
