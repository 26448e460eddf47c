// The settings page: starts what the tab at hand needs.

import { $, all } from "./dom.js";
import * as keys from "./keys.js";
import * as mothership from "./mothership.js";
import * as rotation from "./rotation.js";
import { onChange, page, refresh, state, watch } from "./state.js";
import * as terraform from "./terraform.js";

if ($("#mothership")) mothership.start();
else {
  if ($("#pools")) rotation.start();
  else keys.start();
  terraform.start();
  onChange(() => { $("#coverage").hidden = state.covered !== null; });
  $("#coverage-retry").addEventListener("click", () => refresh().catch(() => {}));
  // Another role has another page, and no role has none. A dialog keeps what was
  // typed.
  const follow = () => state.can !== page.state.can && !$(state.can === undefined ? "#edit[open]" : "dialog[open]") && location.reload();
  onChange(follow);
  addEventListener("close", follow, true);
  watch();
}

// A menu closes like one: by a click elsewhere, by Escape, and when the focus
// leaves it, so that it does not cover what has the focus.
for (const event of ["click", "focusin"]) {
  addEventListener(event, ({ target }) => {
    for (const menu of all(".menu[open]")) if (!menu.contains(target)) menu.open = false;
  });
}
addEventListener("keydown", ({ key }) => {
  if (key !== "Escape") return;
  for (const menu of all(".menu[open]")) {
    menu.open = false;
    $("summary", menu).focus();
  }
});

document.documentElement.dataset.ready = "";
