// Small helpers. Text only ever enters the page as text: there is no HTML in
// the modules, and the page's policy would refuse it.

export const $ = (selector, from = document) => from.querySelector(selector);
export const all = (selector, from = document) => [...from.querySelectorAll(selector)];

export const plural = (n, noun) => `${n.toLocaleString("en")} ${noun}${n === 1 ? "" : "s"}`;

// put changes a text only where it differs, so that a screen reader and the
// selection are not disturbed by what stays.
export function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export const clone = (template) => $(template).content.firstElementChild.cloneNode(true);

// keyed brings the children of parent in line with items, each by its id: what
// stays keeps its element, and so its focus.
export function keyed(parent, items, id, make, update) {
  const old = new Map([...parent.children].map((child) => [child.dataset.id, child]));
  items.forEach((item, i) => {
    let child = old.get(id(item));
    if (child) old.delete(id(item));
    else {
      child = make(item);
      child.dataset.id = id(item);
    }
    update(child, item, i);
    if (parent.children[i] !== child) parent.insertBefore(child, parent.children[i] ?? null);
  });
  for (const child of old.values()) child.remove();
}

export function pulse(element) {
  element.classList.remove("pulse");
  void element.offsetWidth; // lets the animation start again
  element.classList.add("pulse");
}

export function pips(element, n, cap) {
  if (element.childElementCount !== cap) element.replaceChildren(...Array.from({ length: cap }, () => document.createElement("i")));
  [...element.children].forEach((pip, i) => pip.classList.toggle("on", i < n));
}

let hide;
// toast says for a moment what was done. A modal dialog hides what is outside
// of it from screen readers, so the message goes into the one that is open.
export function toast(text) {
  const element = $("#toast");
  // In the footer, so that it can be placed above the buttons.
  const dialog = all("dialog[open]").at(-1);
  const home = dialog ? $(".dialog-foot", dialog) : document.body;
  if (element.parentElement !== home) home.append(element);
  element.textContent = text;
  element.classList.add("shown");
  clearTimeout(hide);
  hide = setTimeout(hideToast, 4000);
}

// hideToast ends a message that something else has overtaken.
export function hideToast() {
  clearTimeout(hide);
  $("#toast").classList.remove("shown");
}
// This event comes before a dialog opens or closes, and so before the message
// on what that dialog did.
document.addEventListener("beforetoggle", (event) => event.target.matches("dialog") && hideToast(), true);

// bdi is a text of a user, whose direction does not change what is around it.
export function bdi(text) {
  const element = document.createElement("bdi");
  element.textContent = text;
  return element;
}

// showName writes a key's name, or that it has none.
export function showName(element, name) {
  put(element, name || "Unnamed key");
  element.classList.toggle("none", !name);
}

const format = (options) => new Intl.DateTimeFormat("en-GB", options);
const day = format({ dateStyle: "medium" });
const moment = format({ dateStyle: "medium", timeStyle: "medium" });
const clock = format({ timeStyle: "short" });

// since is a time of today, or a day and a time.
export const since = (at, now) => (day.format(at) === day.format(now) ? "" : `${day.format(at)}, `) + clock.format(at);

export function ago(at, now) {
  const s = Math.max(0, Math.round((now - at) / 1000));
  if (s < 2) return "just now";
  if (s < 60) return `${s} s ago`;
  if (s < 3600) return `${Math.floor(s / 60)} min ago`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ago`;
  return day.format(at);
}

// dates are when a key was added and, where it was, replaced.
export const dates = (added, replaced) => [time(added), ...(replaced ? [", replaced ", time(replaced)] : [])];

export function time(at, text) {
  const element = document.createElement("time");
  element.dateTime = new Date(at).toISOString();
  element.title = moment.format(at);
  element.textContent = text ?? day.format(at);
  return element;
}
