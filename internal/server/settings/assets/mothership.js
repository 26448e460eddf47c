// The mothership's keys: one per workspace and provider, for superusers.

import { $, all, hideToast, put, time, toast } from "./dom.js";
import { openDelete, openEdit } from "./dialogs.js";
import { call, page } from "./state.js";

const path = "/api/copilot/byok";
const target = $("#target");
const list = $("#mothership");
let loading, waiting;

export function start() {
  target.addEventListener("input", () => {
    clearTimeout(waiting);
    hideToast();
    list.hidden = true;
    waiting = setTimeout(load, 250);
  });
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
  if (!workspace()) return;
  try {
    const { keys } = await call("GET", path + query(), undefined, loading.signal);
    for (const row of list.children) show(row, keys.find((key) => key.provider === row.dataset.provider));
    list.hidden = false;
  } catch (refusal) {
    if (refusal.name === "AbortError") return;
    put($("#mothership-problem"), refusal.message);
    $("#mothership-problem").hidden = false;
  }
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
  const isReplaced = key.updatedAt !== key.createdAt;
  text.replaceChildren("Ends in ", end, isReplaced ? ", replaced " : ", added ", time(Date.parse(key.updatedAt)), key.createdBy === page.user ? " by you" : " by another superuser");
}

function save(row, verb) {
  openEdit({
    title: `${verb} the ${nameOf(row)} key`, mark: $(".mark", row).textContent, placeholder: row.dataset.placeholder,
    lead: `Workspace ${workspace()}`,
    hint: verb === "Add" ? "Stored encrypted. It cannot be shown again." : "The present key is replaced at once.",
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
    title: [`Delete the ${nameOf(row)} key?`], mask: "…" + row.key.keyLastFour,
    follows: `Workspace ${workspace()} then has no ${nameOf(row)} key of its own for the copilot.`,
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
