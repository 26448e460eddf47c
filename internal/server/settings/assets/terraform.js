// "As Terraform": the configuration of what is stored, to copy.

import { $, all, put } from "./dom.js";
import { limit, page, state } from "./state.js";

const dialog = $("#terraform");

export function start() {
  $("#as-terraform")?.addEventListener("click", () => {
    load();
    dialog.showModal();
  });
  for (const choice of all("input[name=style]")) choice.addEventListener("change", load);
  $("#terraform-copy").addEventListener("click", copy);
}

let latest;

async function load() {
  const own = latest = {};
  const isCurrent = () => own === latest;
  put($("#terraform-hint"), "Loading…");
  put($("#terraform-text"), "");
  $("#terraform-copy").disabled = true;
  $("#terraform-problem").hidden = true;
  try {
    const query = new URLSearchParams(page.query);
    query.set("style", $("input[name=style]:checked").value);
    const answer = await fetch(`${page.base}/terraform?${query}`, { signal: limit() });
    if (!answer.ok) throw new Error(answer.status === 401 ? "You are signed out. Reload this page to sign in." : "");
    const text = await answer.text();
    if (!isCurrent()) return;
    put($("#terraform-text"), text);
    const isEmpty = variables(text).length === 0;
    $("#terraform-copy").disabled = isEmpty;
    put($("#terraform-hint"), isEmpty ? `There is nothing to import yet: ${state.can === "save" ? "add a key first" : "no key is stored"}.` : "");
  } catch (refusal) {
    if (!isCurrent()) return;
    put($("#terraform-hint"), "");
    put($("#terraform-problem"), refusal.name === "Error" && refusal.message || "The server did not deliver the configuration. Close this dialog and try again.");
    $("#terraform-problem").hidden = false;
  }
}

// variables are the names of the variables that a configuration requires.
const variables = (text) => [...text.matchAll(/^variable "([^"]+)"/gm)].map(([, name]) => name);

async function copy() {
  const text = $("#terraform-text");
  const names = variables(text.textContent).map((name) => `TF_VAR_${name}`);
  const next = `Set ${names.length > 3 ? `the ${names.length} variables TF_VAR_…_api_keys` : new Intl.ListFormat("en").format(names)}, then run terraform plan and terraform apply.`;
  try {
    await navigator.clipboard.writeText(text.textContent);
    put($("#terraform-hint"), `Copied. ${next}`);
  } catch {
    // Without https a browser has no clipboard to offer: select the text instead.
    getSelection().selectAllChildren(text);
    put($("#terraform-hint"), `Selected: press Ctrl+C or ⌘C to copy. ${next}`);
  }
}
