// The list of providers, its search, and the dialog with a provider's keys.

import { $, ago, all, bdi, clone, dates, keyed, pips, plural, pulse, put, showName, since, time, toast } from "./dom.js";
import { openDelete, openEdit } from "./dialogs.js";
import { call, now, onChange, page, pool, refresh, state } from "./state.js";

const rows = all(".row");
const nameOf = (row) => $("h3", row).textContent;
const rowOf = (id) => rows.find((row) => row.dataset.provider === id);
const manage = $("#manage");
let shown; // the row whose keys the dialog shows
// The API refuses every change to a provider ID that it does not know.
const isUnknown = (row) => "unknown" in row.dataset;

export function start() {
  for (const row of rows) {
    $("[data-do=add]", row).addEventListener("click", () => add(row));
    $("[data-do=manage]", row).addEventListener("click", () => open(row));
  }
  $("#manage-add").addEventListener("click", () => add(shown));
  // Without keys, the button that opened the dialog is hidden.
  manage.addEventListener("close", () => {
    const button = $("[data-do=add]", shown);
    if ($("[data-do=manage]", shown).hidden) (button.hidden ? $("#main") : button).focus();
  });
  $("#search").addEventListener("input", search);
  $("#search-form").addEventListener("submit", (event) => event.preventDefault());
  $("#clear-search").addEventListener("click", () => {
    $("#search").value = "";
    search();
    $("#search").focus();
  });
  onChange((served) => {
    rows.forEach(render);
    summarize();
    if (manage.open) list();
    if (!served.size) return;
    for (const row of rows) if (pool(row.dataset.provider).keys.some((key) => served.has(key.id))) pulse(row);
    for (const item of $("#manage-keys").children) if (served.has(item.dataset.id)) pulse(item);
  });
  setInterval(() => manage.open && list(), 1000);
}

function search() {
  const input = $("#search").value;
  const text = input.trim().toLowerCase();
  for (const row of rows) row.hidden = !["h3", ".what p"].some((of) => $(of, row).textContent.toLowerCase().includes(text));
  for (const group of all(".group")) group.hidden = !$(".row:not([hidden])", group);
  $("#no-hits").hidden = rows.some((row) => !row.hidden);
  put($("#no-hits-text"), input);
  const searched = (address) => {
    const url = new URL(address);
    if (text) url.searchParams.set("search", input);
    else url.searchParams.delete("search");
    return url;
  };
  history.replaceState(null, "", searched(location));
  for (const link of all(".tabs nav a, .switch a")) link.href = searched(link.href);
  summarize();
}

function render(row) {
  const { keys } = pool(row.dataset.provider);
  const n = keys.length;
  const broken = keys.filter((key) => key.broken).length;
  row.classList.toggle("held", n > 0);
  $("[data-do=add]", row).hidden = n > 0 || state.can !== "save" || isUnknown(row);
  $("[data-do=manage]", row).hidden = n === 0;
  $(".held-state", row).hidden = n === 0;
  $(".inherited", row).hidden = n > 0 || !state.covered?.includes(row.dataset.provider);
  $(".trouble", row).hidden = broken === 0;
  put($(".trouble", row), `${broken} cannot be decrypted`);
  put($(".count", row), plural(n, "key"));
  pips($(".pips", row), n, page.cap);
}

function summarize() {
  const pools = Object.values(state.pools);
  const keys = pools.reduce((sum, { keys }) => sum + keys.length, 0);
  const hits = rows.filter((row) => !row.hidden).length;
  put($("#summary"), $("#search").value.trim() ? `${hits} of ${rows.length} providers` : keys ? `${plural(keys, "key")} · ${plural(pools.length, "provider")}` : page.unused ? "No keys" : state.can === "save" ? "No keys yet" : "No keys yet. Workspace admins can add them.");
}

function open(row) {
  shown = row;
  put($("#manage-title"), `${nameOf(row)} keys`);
  put($(".mark", manage), $(".mark", row).textContent);
  list();
  manage.showModal();
  manage.scrollTop = $("#manage-keys").scrollTop = 0;
}

// list shows the keys of the provider that is open.
function list() {
  const { keys, next } = pool(shown.dataset.provider);
  const isFull = keys.length >= page.cap;
  put($("#manage-lead"), keys.length ? spread(keys, next) + ` Uses are counted since this process started (${since(state.since, now())}).` : state.can === undefined ? "" : "All keys were deleted.");
  put($(".count", manage), `${keys.length} of ${page.cap}`);
  pips($(".pips", manage), keys.length, page.cap);
  let hint = isUnknown(shown) ? "This server does not have this provider ID: its keys can be looked at, but not changed." : "";
  if (!state.can) hint = onlyAdmins;
  if (isFull && state.can === "save") hint = full();
  put($("#manage-hint"), hint);
  $("#manage-add").disabled = isFull;
  $("#manage-add").hidden = state.can !== "save" || isUnknown(shown);
  keyed($("#manage-keys"), keys, (key) => key.id, make, (item, key, i) => update(item, key, i, i === next));
}

const onlyAdmins = "Only workspace admins can change these keys.";
const full = () => `A provider can have at most ${page.cap} keys. Delete one to add another.`;

// spread says how requests use the keys.
function spread(keys, next) {
  const isOne = keys.length === 1;
  if (page.unused) return "Workspaces do not use these keys: the organization has no active plan.";
  if (next === -1) return isOne ? "This key cannot be decrypted: requests have no key until it is updated." : "None of these keys can be decrypted: requests have no key until one is updated.";
  if (keys.some((key) => key.broken)) return "Requests use these keys in this order. A key that cannot be decrypted is skipped: the key after it serves its requests, too.";
  return isOne ? "All requests use this key. More keys would take turns." : "Requests use these keys in turn, in this order.";
}

function make({ id }) {
  const item = clone("#key-template");
  const find = () => pool(shown.dataset.provider).keys.find((key) => key.id === id);
  $("[data-do=update]", item).addEventListener("click", () => change(shown, find()));
  $("[data-do=delete]", item).addEventListener("click", () => remove(shown, find()));
  return item;
}

function update(item, key, i, isNext) {
  const name = key.name || "Unnamed key";
  put($(".position", item), String(i + 1));
  showName($(".key-name", item), key.name);
  put($(".mask", item), key.mask);
  const badge = $(".badge", item);
  put(badge, key.broken ? "Cannot be decrypted" : isNext ? "Next" : "");
  badge.className = `badge ${key.broken ? "broken" : "next"}`;
  const made = `${key.created} ${key.replaced} ${key.by}`;
  if (item.dataset.made !== made) {
    item.dataset.made = made;
    const [added, ...replaced] = dates(key.created, key.replaced);
    $(".key-made", item).replaceChildren("Added ", added, " by ", bdi(key.by ?? "a deleted user"), ...replaced);
  }
  const uses = document.createElement("b");
  uses.textContent = `served ${(key.served ?? 0).toLocaleString("en")}×`;
  const last = key.last ? ago(key.last, now()) : "never";
  if ($(".key-use", item).textContent !== uses.textContent + last) {
    $(".key-use", item).replaceChildren(uses, key.last ? time(key.last, last) : last);
  }
  $(".key-do", item).hidden = !state.can || isUnknown(shown);
  $("[data-do=update]", item).hidden = state.can !== "save";
  for (const button of all("button", item)) button.setAttribute("aria-label", `${button.textContent} ${name}, ${key.mask}, key ${i + 1}`);
}

function add(row) {
  const id = row.dataset.provider;
  openEdit({
    title: `Add ${article(nameOf(row))} key`, mark: $(".mark", row).textContent, placeholder: row.dataset.placeholder, name: "",
    lead: () => {
      const n = pool(id).keys.length;
      if (state.can !== "save") return [onlyAdmins];
      return n >= page.cap ? [full()] : n ? ["It is added at the end of the rotation."] : [];
    },
    hint: "It is stored encrypted and cannot be shown again.",
    save: async ({ apiKey, name }) => {
      await call("POST", page.api, { providerId: id, apiKey, ...(name && { name }) });
      await current();
      return () => {
        if (manage.open) $("#manage-keys").lastElementChild?.focus();
        else $("[data-do=manage]", row).focus();
        toast(`${nameOf(row)} key added`);
      };
    },
  });
}

function change(row, key) {
  if (!key) return;
  const id = row.dataset.provider;
  openEdit({
    title: `Update ${article(nameOf(row))} key`, mark: $(".mark", row).textContent, placeholder: row.dataset.placeholder, name: key.name ?? "",
    lead: () => [bdi(key.name || "Unnamed key"), " "], mask: key.mask, which: () => which(id, key),
    hint: "Enter the key again, even if only the name changes. Its place in the rotation stays the same.",
    save: async ({ apiKey, name }) => {
      await orCurrent(call("POST", page.api, { providerId: id, keyId: key.id, apiKey, name }));
      await current();
      return () => toast(`${nameOf(row)} key updated`);
    },
  });
}

function remove(row, key) {
  if (!key) return;
  const id = row.dataset.provider;
  openDelete({
    title: page.organization ? [`Delete this ${nameOf(row)} key of `, bdi(page.organization), "?"] : [`Delete this ${nameOf(row)} key?`],
    name: key.name ?? "", mask: key.mask, which: () => which(id, key), follows: () => follows(row, key),
    remove: async () => {
      const at = pool(id).keys.findIndex((k) => k.id === key.id);
      await orCurrent(call("DELETE", page.api, { providerId: id, keyId: key.id }));
      await current();
      return () => {
        const items = $("#manage-keys").children;
        if (items.length) items[Math.min(at, items.length - 1)].focus();
        else manage.close();
        toast(`${nameOf(row)} key deleted`);
      };
    },
  });
}

const article = (name) => (/^[aeioux]/i.test(name) ? "an " : "a ") + name;

// which tells a key from others with the same name and mask.
function which(id, key) {
  const { keys } = pool(id);
  const at = keys.findIndex((other) => other.id === key.id);
  if (at === -1) return ["This key was deleted elsewhere"];
  return [`Key ${at + 1} of ${keys.length}, added `, ...dates(key.created, key.replaced)];
}

// follows says what a delete leaves.
function follows(row, key) {
  const id = row.dataset.provider;
  const rest = pool(id).keys.filter((other) => other.id !== key.id);
  const name = nameOf(row);
  if (page.unused) return "No workspace uses it: the organization has no active plan.";
  if (rest.length && rest.every((other) => other.broken)) {
    return `No other ${name} key can be decrypted: until one is updated, ${name} requests of this ${page.noun} have no key.`;
  }
  const broken = rest.filter((other) => other.broken).length;
  if (broken) return `Of the other ${name} keys, ${rest.length - broken} can be used and ${broken} cannot be decrypted.`;
  if (rest.length) return rest.length === 1 ? `The other ${name} key stays in use.` : `The other ${rest.length} ${name} keys stay in use.`;
  const last = `This is the last ${name} key.`;
  if (!page.hosted) return `${last} This server has no hosted keys: ${name} requests of this workspace then have no key.`;
  if (page.noun === "organization") return `${last} Workspaces without one of their own fall back to hosted keys.`;
  if (!state.covered) return `${last} This workspace falls back to its organization’s keys, if there are any, else to hosted keys.`;
  return `${last} This workspace falls back to ${state.covered.includes(id) ? "its organization’s keys" : "hosted keys"}.`;
}

// current brings the list up to date after a change. The change is stored by
// then, so a failure here is the stream's to mend.
const current = () => refresh().catch(() => {});

// orCurrent also does so where a key turned out to be gone.
async function orCurrent(changing) {
  try {
    return await changing;
  } catch (refusal) {
    if (refusal.status === 404) {
      await current();
      refusal.message = "This key is no longer there: it was deleted elsewhere. Close this dialog to see the keys as they are.";
    }
    throw refusal;
  }
}
