// The dialogs that change something: adding or updating a key, and deleting
// one. They know a form and what to call; whose keys they are is the caller's.

import { $, all, put, showName } from "./dom.js";
import { onChange, signInLink } from "./state.js";

const edit = $("#edit");
const apiKey = $("#edit-key");
const name = $("#edit-name");
const save = $("#edit-save");
let current, busy;

function setBusy(yes) {
  busy = yes;
  put(save, yes ? "Saving…" : "Save");
  $("#delete-do").disabled = yes;
  put($("#delete-do"), yes ? "Deleting…" : "Delete");
  allow();
}

function allow() {
  save.disabled = busy || apiKey.value.trim() === "";
}

// problem shows why a change failed.
function problem(selector, refusal) {
  const element = $(selector);
  element.hidden = !refusal;
  element.textContent = refusal?.message ?? "";
  // What the notice on the connection would only repeat.
  element.classList.toggle("connection", [0, 401].includes(refusal?.status));
  if (refusal?.status === 401) element.append(" ", signInLink());
}

function reveal(yes) {
  apiKey.type = yes ? "text" : "password";
  $("#edit-eye").setAttribute("aria-pressed", yes);
}

// forget leaves no secret in the page.
function forget() {
  apiKey.value = name.value = "";
  for (const field of [apiKey, name]) field.removeAttribute("aria-invalid");
  reveal(false);
  problem("#edit-problem");
  allow();
}

// openEdit asks for an API key, and where name is a string for a name too. It
// calls save({apiKey, name}) and stays open while that fails.
export function openEdit(what) {
  current = what;
  forget();
  put($("#edit-title"), what.title);
  const mask = document.createElement("code");
  mask.textContent = what.mask ?? "";
  $("#edit-lead").replaceChildren(...(what.lead ?? []), mask, ...(what.which ? [". ", ...what.which] : []));
  put($(".mark", edit), what.mark);
  put($("#edit-key-hint"), what.hint);
  apiKey.placeholder = what.placeholder || "Paste the API key";
  $("#edit-name-field").hidden = what.name === undefined;
  name.value = what.name ?? "";
  edit.showModal();
  apiKey.focus();
}

apiKey.addEventListener("input", allow);
$("#edit-eye").addEventListener("click", () => {
  reveal(apiKey.type === "password");
  apiKey.focus();
});
addEventListener("pagehide", forget);
edit.addEventListener("close", () => edit.open || forget()); // closed by the browser

$("#edit-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (save.disabled) return;
  problem("#edit-problem");
  for (const field of [apiKey, name]) field.removeAttribute("aria-invalid");
  setBusy(true);
  try {
    const done = await current.save({ apiKey: apiKey.value.trim(), name: name.value.trim() });
    setBusy(false);
    close(edit);
    done?.();
  } catch (refusal) {
    setBusy(false);
    problem("#edit-problem", refusal);
    const field = refusal.field === "name" ? name : apiKey;
    if (refusal.field) field.setAttribute("aria-invalid", "true");
    field.focus();
  }
});

const remove = $("#delete");

// openDelete names what goes and what follows, which is said anew when the keys
// change, and calls remove().
export function openDelete(what) {
  current = what;
  problem("#delete-problem");
  $("#delete-title").replaceChildren(...what.title);
  showName($("#delete-name"), what.name);
  $("#delete-name").hidden = what.name === undefined;
  put($("#delete-mask"), what.mask);
  tell();
  remove.showModal();
}

function tell() {
  $("#delete-which").replaceChildren(...(current.which?.() ?? []));
  put($("#delete-follows"), current.follows());
}
// A delete under way has changed the keys itself.
onChange(() => remove.open && !busy && tell());

$("#delete-do").addEventListener("click", async () => {
  problem("#delete-problem");
  setBusy(true);
  try {
    const done = await current.remove();
    setBusy(false);
    close(remove);
    done?.();
  } catch (refusal) {
    setBusy(false);
    problem("#delete-problem", refusal);
    $("#delete-do").focus();
  }
});

// close closes a dialog and forgets at once what was typed. The close event
// comes later: by then the dialog may be open again and hold what was typed
// since.
function close(dialog) {
  if (dialog === edit) forget();
  dialog.close();
}

// A change under way is waited for.
for (const dialog of [edit, remove]) {
  dialog.addEventListener("cancel", (event) => {
    event.preventDefault();
    if (!busy) close(dialog);
  });
}
for (const button of all("[data-close]")) button.addEventListener("click", () => busy || close(button.closest("dialog")));
