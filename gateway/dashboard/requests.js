// Requests as they end, and how each was routed.

import { get, part } from "./api.js";
import { badge, dialog, field, h, text } from "./dom.js";
import { clock, count, seconds } from "./format.js";
import { follow, live } from "./live.js";
import { keyName, learn } from "./names.js";

export const title = "Requests";

const SHOWN_MOST = 200;
const COLUMNS = ["Time", "Model", "Key", "Credential", "Status", "First byte", "Whole", "Tokens"];

export function render(main) {
  const filter = h("input", { type: "search", placeholder: "Model, key, credential, reason, id", oninput: () => draw() });
  const failed = h("input", { type: "checkbox", onchange: () => draw() });
  const paused = h("button", { type: "button", "aria-pressed": "false" }, "Pause");
  const note = h("p", { class: "muted" });
  const body = h("tbody", {});
  const empty = h("p", { class: "empty" }, "Requests appear here as they end, while this page or another one watches.");
  paused.addEventListener("click", () => {
    const is = paused.getAttribute("aria-pressed") !== "true";
    paused.setAttribute("aria-pressed", String(is));
    text(paused, is ? "Go on" : "Pause");
    draw(true);
  });
  main.append(
    h("div", { class: "bar" }, h("div", { class: "actions" }, paused, h("label", { class: "check" }, failed, "Failed only")), field("Filter", filter)),
    note,
    h("div", { class: "card flat" }, h("table", { class: "log" }, h("caption", { class: "unseen" }, "Requests, the newest first"), h("thead", {}, h("tr", {}, COLUMNS.map((one) => h("th", { scope: "col" }, one)))), body), empty),
  );

  const rows = new Map();
  const draw = (forced = false) => {
    if (paused.getAttribute("aria-pressed") === "true" && !forced) return;
    const wanted = filter.value.trim().toLowerCase();
    const found = live.requests.filter((one) => (!failed.checked || bad(one)) && (!wanted || words(one).includes(wanted))).slice(0, SHOWN_MOST);
    const ids = new Set(found.map((one) => one.id));
    for (const [id, row] of rows) {
      if (!ids.has(id)) {
        row.remove();
        rows.delete(id);
      }
    }
    let after = null;
    for (const one of found) {
      const row = rows.get(one.id) ?? line(one);
      rows.set(one.id, row);
      // Rows that are there already stay where they are, and keep the focus.
      if ((after ? after.nextSibling : body.firstChild) !== row) after ? after.after(row) : body.prepend(row);
      after = row;
    }
    empty.hidden = found.length > 0;
    text(note, `${count(found.length)} shown of ${count(live.requests.length)} kept${live.skipped ? `; ${count(live.skipped)} came too fast to be told one by one` : ""}.`);
  };
  let ends = null;
  learn().finally(() => (ends = follow(["requests"], () => draw())));
  return () => ends?.();
}

const bad = (one) => one.status >= 400 || one.reason !== "";
const words = (one) => [one.id, one.model, one.requested_model, one.key, keyName(one.key), one.credential, one.reason, one.peer, one.status, one.verb].join(" ").toLowerCase();

function line(one) {
  const cell = (label, ...contents) => h("td", { "data-label": label }, ...contents);
  return h(
    "tr",
    { class: bad(one) ? "failed" : null },
    cell("Time", h("button", { type: "button", class: "link", "aria-label": `Details of the request at ${clock(one.time)}`, onclick: () => details(one) }, clock(one.time))),
    cell("Model", h("span", { class: "clip", title: one.model }, one.model || one.verb || "–")),
    cell("Key", h("span", { class: "clip", title: one.key }, keyName(one.key) || "–")),
    cell("Credential", h("span", { class: "clip", title: one.credential }, one.credential || "–"), one.attempts > 1 && h("span", { class: "muted" }, ` ×${one.attempts}`)),
    cell("Status", h("span", { class: `badge ${bad(one) ? "bad" : "good"}` }, one.status), one.reason && h("span", { class: "reason" }, one.reason)),
    cell("First byte", seconds(one.first_seconds)),
    cell("Whole", seconds(one.seconds)),
    cell("Tokens", one.tokens_in === null ? "–" : `${count(one.tokens_in)} → ${count(one.tokens_out + (one.tokens_thoughts ?? 0))}`),
  );
}

async function details(one) {
  const facts = {
    Request: one.id,
    Time: new Date(one.time * 1000).toLocaleString([], { hour12: false }),
    "Came from": `${keyName(one.key) || "nobody known"} at ${one.peer}`,
    Method: one.verb,
    Model: one.requested_model === one.model ? one.model : `${one.requested_model}, which is ${one.model}`,
    Answer: `${one.status} ${one.reason} by the ${one.origin}${one.finish ? `, ${one.finish}` : ""}`,
    Times: `first byte ${seconds(one.first_seconds)}, whole ${seconds(one.seconds)}`,
    Bytes: `${count(one.bytes_in)} in, ${count(one.bytes_out)} out`,
    Tokens: one.tokens_in === null ? "not told" : `${one.tokens_in} in (${one.tokens_cached} cached), ${one.tokens_out} out, ${one.tokens_thoughts} thoughts`,
    Session: one.session || "none",
  };
  const record = h("div", { class: "record", "aria-live": "polite" }, "Loading…");
  dialog("Request", [h("dl", {}, Object.entries(facts).map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])), record]);
  try {
    const told = await get(`/v1/requests/${part(one.id)}`);
    record.replaceChildren(
      h("h3", {}, "Attempts"),
      told.attempts.length ? h("ol", {}, told.attempts.map((attempt) => h("li", {}, h("strong", {}, attempt.credential), ` ${attempt.reason || "good"} (${attempt.status || "no answer"}) after ${seconds(attempt.seconds)}`, h("br", {}), h("span", { class: "muted" }, [attempt.why, attempt.base].filter(Boolean).join(" · "))))) : h("p", { class: "muted" }, "None: it was answered without one."),
      ...(told.choices.length ? told.choices.map(choice) : [h("p", { class: "muted" }, "Why its credential was chosen was not kept: nobody watched when it began.")]),
    );
  } catch (error) {
    text(record, error.message);
  }
}

function choice(told, at) {
  return h(
    "section",
    {},
    h("h3", {}, `Choice ${at + 1}`),
    h("p", { class: "muted" }, told.why || "nobody was free", told.waited >= 0.001 ? `, after ${seconds(told.waited)} of waiting` : ""),
    h("ul", { class: "options" }, told.options.map((one) => h("li", { class: one.chosen ? "chosen" : null }, badge(one.state), h("span", { class: "clip" }, one.label), h("span", { class: "muted" }, one.chosen ? "chosen" : one.reason, one.free_seconds ? `, free in ${seconds(one.free_seconds)}` : "")))),
  );
}
