"use strict";

const NAMES = {
  concurrent: "Requests at a time",
  requests_per_minute: "Requests a minute",
  tokens_per_minute: "Tokens a minute",
  tokens_per_day: "Tokens a day",
  micros_per_day: "Budget a day",
  micros_per_month: "Budget a month",
};
const MONEY = new Intl.NumberFormat(undefined, { style: "currency", currency: "USD", maximumFractionDigits: 4 });
const NUMBER = new Intl.NumberFormat();
const byId = (id) => document.getElementById(id);

function shown(limit, value) {
  return limit.startsWith("micros") ? MONEY.format(value / 1e6) : NUMBER.format(value);
}

function time(text) {
  return text ? new Date(text).toLocaleString() : "–";
}

function cells(kind, ...texts) {
  const row = document.createElement("tr");
  const heads = byId(kind).closest("table").tHead.rows[0].cells;
  texts.forEach((text, at) => {
    const cell = document.createElement(at ? "td" : "th");
    if (!at) cell.scope = "row";
    cell.dataset.label = heads[at].textContent;
    cell.append(text);
    row.append(cell);
  });
  byId(kind).append(row);
  return row;
}

function say(text, problem) {
  byId("told").textContent = text;
  byId("told").className = problem ? "problem" : "";
}

function show(found) {
  byId("name").textContent = found.key.name || found.key.id;
  const models = found.key.models.length ? found.key.models.join(", ") : "all";
  const expires = found.key.expires ? `Good until ${time(found.key.expires)}.` : "It does not expire.";
  byId("about").textContent = `${found.key.id}.  ${expires}  Models: ${models}.  Under way: ${found.under_way}.`;
  byId("limits").replaceChildren();
  byId("usage").replaceChildren();
  for (const one of found.limits) {
    const row = cells("limits", NAMES[one.limit] || one.limit, shown(one.limit, one.used), shown(one.limit, one.value),
      shown(one.limit, one.left), time(one.renews));
    const bar = document.createElement("progress");
    bar.max = one.value;
    bar.value = Math.min(one.used, one.value);
    bar.setAttribute("aria-label", `${NAMES[one.limit] || one.limit}: share used`);
    row.firstChild.append(bar);
  }
  if (!found.limits.length) cells("limits", "No limit is set.", "–", "–", "–", "–");
  for (const [name, window] of [["Today", found.usage.day], ["This month", found.usage.month]]) {
    cells("usage", `${name}, since ${time(window.since)}`, NUMBER.format(window.requests),
      NUMBER.format(window.tokens), MONEY.format(window.micros / 1e6));
  }
  byId("result").hidden = false;
  byId("forget").hidden = false;
  say(`As of ${time(found.now)}.`, false);
  byId("name").focus();
}

function clear() {
  byId("result").hidden = true;
  byId("limits").replaceChildren();
  byId("usage").replaceChildren();
}

byId("ask").addEventListener("submit", async (event) => {
  event.preventDefault();
  const key = byId("key").value.trim();
  say("Asking …", false);
  try {
    const answer = await fetch("me", { headers: { "x-goog-api-key": key }, cache: "no-store", credentials: "omit" });
    const found = await answer.json();
    if (answer.ok) {
      show(found);
      return;
    }
    clear();
    say(found.error.message, true);
  } catch {
    clear();
    say("The gateway gave no answer.", true);
  }
});

byId("forget").addEventListener("click", () => {
  byId("key").value = "";
  byId("forget").hidden = true;
  clear();
  say("The key is forgotten.", false);
  byId("key").focus();
});
