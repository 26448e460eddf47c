// The dialogs that change something: adding or updating a key, and deleting
// one. They know a form and what to call; whose keys they are is the caller's.

import { $, all, put, showName } from "./dom.js";
import { onChange, signInLink } from "./state.js";

const edit = $("#edit");
const remove = $("#delete");
const apiKey = $("#edit-key");
const name = $("#edit-name");
const save = $("#edit-save");
let current, busy;

// setBusy notes the dialog whose change is under way, or that none is. Its buttons
// keep the focus.
function setBusy(dialog) {
  busy = dialog;
  put(save, busy ? "Saving…" : "Save");
  put($("#delete-do"), busy ? "Deleting…" : "Delete");
  for (const button of all("#edit button:not(#edit-eye), #delete button")) button.setAttribute("aria-disabled", Boolean(busy));
  apiKey.readOnly = name.readOnly = Boolean(busy);
}

function allow() {
  save.disabled = apiKey.value.trim() === "";
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
  tellEdit();
  put($(".mark", edit), what.mark);
  put($("#edit-key-hint"), what.hint);
  apiKey.placeholder = what.placeholder || "Paste the API key";
  $("#edit-name-field").hidden = what.name === undefined;
  name.value = what.name ?? "";
  edit.showModal();
  apiKey.focus();
}

function tellEdit() {
  const mask = document.createElement("code");
  mask.textContent = current.mask ?? "";
  $("#edit-lead").replaceChildren(...(current.lead?.() ?? []), mask, ...(current.which ? [". ", ...current.which()] : []));
}
// A change under way has changed the keys itself.
onChange(() => {
  if (busy) return;
  if (edit.open) tellEdit();
  if (remove.open) tellDelete();
});

apiKey.addEventListener("input", allow);
$("#edit-eye").addEventListener("click", () => {
  reveal(apiKey.type === "password");
  apiKey.focus();
});
addEventListener("pagehide", forget);

$("#edit-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (busy || save.disabled) return;
  problem("#edit-problem");
  for (const field of [apiKey, name]) field.removeAttribute("aria-invalid");
  setBusy(edit);
  try {
    const done = await current.save({ apiKey: apiKey.value.trim(), name: name.value.trim() });
    setBusy();
    close(edit);
    done?.();
  } catch (refusal) {
    setBusy();
    problem("#edit-problem", refusal);
    const field = refusal.field === "name" ? name : apiKey;
    if (refusal.field) field.setAttribute("aria-invalid", "true");
    field.focus();
  }
});

// openDelete names what goes and what follows, which is said anew when the keys
// change, and calls remove().
export function openDelete(what) {
  current = what;
  problem("#delete-problem");
  $("#delete-title").replaceChildren(...what.title);
  showName($("#delete-name"), what.name);
  $("#delete-name").hidden = what.name === undefined;
  put($("#delete-mask"), what.mask);
  tellDelete();
  remove.showModal();
}

function tellDelete() {
  $("#delete-which").replaceChildren(...(current.which?.() ?? []));
  put($("#delete-follows"), current.follows());
}
$("#delete-do").addEventListener("click", async () => {
  if (busy) return;
  problem("#delete-problem");
  setBusy(remove);
  try {
    const done = await current.remove();
    setBusy();
    close(remove);
    done?.();
  } catch (refusal) {
    setBusy();
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

// A change under way is waited for. Chromium lets a page refuse only the first
// of several close requests: Escape does not get that far, and what another one
// has closed, as a phone's back gesture, is opened again as it was.
addEventListener("keydown", (event) => busy && event.key === "Escape" && event.preventDefault(), true);
for (const dialog of [edit, remove]) {
  dialog.addEventListener("cancel", (event) => {
    event.preventDefault();
    if (!busy) close(dialog);
  });
  dialog.addEventListener("close", () => {
    if (dialog.open) return;
    if (busy === dialog) dialog.showModal();
    else if (dialog === edit) forget();
    // The button that opened it may be gone.
    const focused = document.activeElement;
    if (focused === document.body || !focused.checkVisibility()) (all("dialog[open] [data-close]").at(-1) ?? $("#main")).focus();
  });
}
for (const button of all("[data-close]")) button.addEventListener("click", () => busy || close(button.closest("dialog")));
