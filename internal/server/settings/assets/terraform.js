// "As Terraform": the configuration of what is stored, to copy.

import { $, all, put } from "./dom.js";
import { page } from "./state.js";

const dialog = $("#terraform");

export function start() {
  $("#as-terraform")?.addEventListener("click", () => {
    load();
    dialog.showModal();
  });
  for (const choice of all("input[name=style]")) choice.addEventListener("change", load);
  $("#terraform-copy").addEventListener("click", copy);
}

async function load() {
  put($("#terraform-hint"), "");
  $("#terraform-problem").hidden = true;
  const style = $("input[name=style]:checked").value;
  try {
    const query = new URLSearchParams(page.query);
    query.set("style", style);
    const answer = await fetch(`${page.base}/terraform?${query}`);
    if (!answer.ok) throw new Error();
    put($("#terraform-text"), await answer.text());
    $("#terraform-copy").disabled = false;
  } catch {
    put($("#terraform-text"), "");
    $("#terraform-copy").disabled = true;
    put($("#terraform-problem"), "The server did not deliver the configuration. Close this dialog and try again.");
    $("#terraform-problem").hidden = false;
  }
}

async function copy() {
  const text = $("#terraform-text");
  try {
    await navigator.clipboard.writeText(text.textContent);
    put($("#terraform-hint"), "Copied. terraform plan shows what it imports.");
  } catch {
    // Without https a browser has no clipboard to offer: select the text instead.
    getSelection().selectAllChildren(text);
    put($("#terraform-hint"), "Selected: press Ctrl+C or ⌘C to copy.");
  }
}
