// The overview of the rotation: who serves next, how often each key has served.

import { $, ago, all, clone, keyed, pips, plural, pulse, put, showName, since, time } from "./dom.js";
import { isLive, now, onChange, page, pool, state } from "./state.js";

const providers = all("#catalogue li").map((item) => ({ id: item.dataset.provider, mark: item.dataset.mark, name: item.textContent }));

export function start() {
  render();
  onChange((served) => {
    render();
    for (const turn of all(".turn")) if (served.has(turn.dataset.id)) pulse(turn);
  });
  setInterval(render, 1000);
}

function render() {
  const held = providers.filter(({ id }) => state.pools[id]);
  put($("#since"), held.length ? `Uses are counted since this process started (${since(state.since, now())}).${isLive() ? " Updates live." : ""}` : "");
  $("#no-pools").hidden = held.length > 0;
  keyed($("#pools"), held, ({ id }) => id, ({ mark, name }) => {
    const section = clone("#pool-template");
    put($(".mark", section), mark);
    put($("h2", section), name);
    return section;
  }, show);
}

function show(section, { id, name }) {
  const { keys, next } = pool(id);
  const total = keys.reduce((sum, key) => sum + (key.served ?? 0), 0);
  const most = Math.max(1, ...keys.map((key) => key.served ?? 0));
  section.setAttribute("aria-label", name);
  put($(".what p", section), `${total ? plural(total, "request") : "No request"} served by ${keys.length === 1 ? "this key" : "these keys"}${total ? "" : " yet"}`);
  put($(".count", section), `${keys.length} of ${page.cap}`);
  pips($(".pips", section), keys.length, page.cap);
  keyed($(".turns", section), keys, (key) => key.id, () => clone("#turn-template"), (turn, key, i) => {
    turn.classList.toggle("is-next", i === next);
    put($(".position", turn), String(i + 1));
    showName($(".key-name", turn), key.name);
    put($(".mask", turn), key.mask);
    const badge = $(".badge", turn);
    put(badge, key.broken ? "Cannot be decrypted" : i === next ? "Next" : "");
    badge.className = `badge ${key.broken ? "broken" : "next"}`;
    $(".share i", turn).style.transform = `scaleX(${(key.served ?? 0) / most})`;
    put($(".turn-count", turn), `served ${(key.served ?? 0).toLocaleString("en")}×`);
    const last = key.last ? ago(key.last, now()) : "never";
    if ($(".turn-last", turn).textContent !== last) $(".turn-last", turn).replaceChildren(key.last ? time(key.last, last) : last);
  });
}
