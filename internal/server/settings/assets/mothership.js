// The mothership's keys: one per workspace and provider, for superusers.

import { $, all, bdi, dates, hideToast, time, toast } from "./dom.js";
import { openDelete, openEdit } from "./dialogs.js";
import { call, page, signInLink } from "./state.js";

const path = "/api/copilot/byok";
const target = $("#target");
const list = $("#mothership");
const hint = $("#target-hint");
const unfilled = hint?.textContent;
let loading, waiting;

export function start() {
  target.addEventListener("input", () => {
    clearTimeout(waiting);
    hideToast();
    list.hidden = true;
    waiting = setTimeout(load, 250);
  });
  $("#mothership-retry").addEventListener("click", load);
  for (const row of list.children) {
    $("[data-do=add]", row).addEventListener("click", () => save(row, "Add"));
    $("[data-do=update]", row).addEventListener("click", () => save(row, "Update"));
    $("[data-do=delete]", row).addEventListener("click", () => remove(row));
  }
  load();
}

const workspace = () => target.value.trim();
const nameOf = (row) => $("h2", row).textContent;
const query = (more) => "?" + new URLSearchParams({ workspaceId: workspace(), ...more });

async function load() {
  loading?.abort();
  loading = new AbortController();
  const url = new URL(location);
  if (workspace()) url.searchParams.set("workspace", workspace());
  else url.searchParams.delete("workspace");
  history.replaceState(null, "", url);
  $("#mothership-problem").hidden = true;
  list.hidden = true;
  tell();
  if (!workspace()) return;
  try {
    // Without the name the keys are shown all the same.
    const naming = call("GET", `${page.base}/target${query()}`, undefined, loading.signal).then(tell, () => {});
    const [{ keys }] = await Promise.all([call("GET", path + query(), undefined, loading.signal), naming]);
    for (const row of list.children) show(row, keys.find((key) => key.provider === row.dataset.provider));
    list.hidden = false;
  } catch (refusal) {
    if (refusal.name === "AbortError") return;
    $("#mothership-problem span").replaceChildren(refusal.message, ...(refusal.status === 401 ? [" ", signInLink()] : []));
    $("#mothership-problem").hidden = false;
  }
}

// tell says which workspace has the ID, so that a mistyped one is noticed.
function tell(found) {
  hint.classList.toggle("warn", found?.name === null);
  if (!found) hint.textContent = workspace() ? "" : unfilled;
  else if (found.name === null) hint.textContent = "This server has no workspace with this ID. Check it before you add a key.";
  else hint.replaceChildren("Workspace ", bdi(found.name));
}

function show(row, key) {
  row.classList.toggle("held", Boolean(key));
  row.key = key;
  for (const button of all("button", row)) button.hidden = (button.dataset.do === "add") === Boolean(key);
  const text = $(".single", row);
  if (!key) {
    text.textContent = "No key";
    return;
  }
  const end = document.createElement("code");
  end.textContent = "…" + key.keyLastFour;
  text.replaceChildren("Ends in ", end, isReplaced(key) ? ", replaced " : ", added ", time(Date.parse(key.updatedAt)), key.createdBy === page.user ? " by you" : " by another superuser");
}

const isReplaced = (key) => key.updatedAt !== key.createdAt;
const datesOf = (key) => dates(Date.parse(key.createdAt), isReplaced(key) && Date.parse(key.updatedAt));

function save(row, verb) {
  openEdit({
    title: `${verb} the ${nameOf(row)} key`, mark: $(".mark", row).textContent, placeholder: row.dataset.placeholder,
    lead: () => [`Workspace ${workspace()}${verb === "Add" ? "" : ", key "}`],
    ...(verb === "Update" && { mask: "…" + row.key.keyLastFour, which: () => ["Added ", ...datesOf(row.key)] }),
    hint: verb === "Add" ? "It is stored encrypted and cannot be shown again." : "It replaces the present key as soon as it is saved.",
    save: async ({ apiKey }) => {
      await call("POST", path, { workspaceId: workspace(), provider: row.dataset.provider, apiKey });
      await load();
      return () => {
        toast(`${nameOf(row)} key ${verb === "Add" ? "added" : "updated"}`);
        $("[data-do=update]", row).focus();
      };
    },
  });
}

function remove(row) {
  openDelete({
    title: [`Delete the ${nameOf(row)} key?`], mask: "…" + row.key.keyLastFour, which: () => ["Added ", ...datesOf(row.key)],
    follows: () => `Workspace ${workspace()} then has no ${nameOf(row)} key of its own for the copilot.`,
    remove: async () => {
      await call("DELETE", path + query({ provider: row.dataset.provider }));
      await load();
      return () => {
        toast(`${nameOf(row)} key deleted`);
        $("[data-do=add]", row).focus();
      };
    },
  });
}
