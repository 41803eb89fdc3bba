// Traffic, errors, latency, tokens and cost, now and over time.

import { get } from "./api.js";
import { Chart } from "./chart.js";
import { h, text } from "./dom.js";
import { count, money, percent, seconds } from "./format.js";
import { follow, live } from "./live.js";
import { keyName, learn } from "./names.js";

export const title = "Overview";

const RANGES = {
  live: { label: "5 minutes" },
  day: { label: "24 hours", since: "24h", by: "hour", step: 3600, long: 86400 },
  week: { label: "7 days", since: "7d", by: "hour", step: 3600, long: 7 * 86400 },
  month: { label: "30 days", since: "30d", by: "day", step: 86400, long: 30 * 86400 },
};
const TABLES = { model: "By model", key: "By key", credential: "By credential" };
let chosen = "live";

export function render(main) {
  const tiles = new Tiles();
  const charts = {
    traffic: new Chart("Requests", [
      { label: "requests", colour: "--blue", show: count },
      { label: "errors", colour: "--red", show: count },
    ], { whole: true, least: 4 }),
    latency: new Chart("Time to answer", [
      { label: "first byte", colour: "--teal", show: seconds },
      { label: "whole", colour: "--violet", show: seconds },
    ]),
    tokens: new Chart("Tokens", [
      { label: "in", colour: "--blue", show: count },
      { label: "out", colour: "--amber", show: count },
    ], { whole: true, least: 4 }),
    flight: new Chart("Under way", [
      { label: "requests", colour: "--green", show: count },
      { label: "waiting", colour: "--amber", show: count },
    ], { whole: true, least: 4 }),
    cost: new Chart("Cost", [{ label: "cost", colour: "--green", show: money }], { bars: true, least: 10000 }),
  };
  const tables = h("div", { class: "grid tables" });
  const sum = h("p", { class: "muted", "aria-live": "polite" });
  const choice = ranges((name) => {
    chosen = name;
    change();
  });
  main.append(
    tiles.element,
    h("div", { class: "bar" }, h("h2", {}, "Over time"), choice),
    h("div", { class: "grid charts" }, Object.values(charts).map((one) => one.element)),
    h("div", { class: "bar" }, h("h2", {}, "Who uses what"), sum),
    tables,
  );

  let timer = null;
  const change = () => {
    clearInterval(timer);
    charts.cost.element.hidden = chosen === "live";
    charts.flight.element.hidden = chosen !== "live";
    if (chosen === "live") drawLive(charts);
    past(charts, tables, sum);
    timer = setInterval(() => document.hidden || past(charts, tables, sum), 30000);
  };
  const ends = follow(["state", "accounts"], () => {
    tiles.update();
    if (chosen === "live") drawLive(charts);
  });
  change();
  return () => {
    ends();
    clearInterval(timer);
    Object.values(charts).forEach((one) => one.destroy());
  };
}

class Tiles {
  constructor() {
    this.values = {};
    const tile = (name, label) => {
      this.values[name] = [h("strong", {}, "–"), h("small", {}, "")];
      return h("div", { class: "card tile" }, h("span", { class: "muted" }, label), ...this.values[name]);
    };
    this.element = h(
      "section",
      { class: "grid tiles", "aria-label": "Now" },
      tile("rate", "Requests"),
      tile("errors", "Errors"),
      tile("first", "First byte"),
      tile("tokens", "Tokens"),
      tile("flight", "Under way"),
      tile("pool", "Credentials"),
    );
  }

  update() {
    const now = live.state;
    if (!now) return;
    const last = live.seconds.slice(-60);
    const total = (name) => last.reduce((sum, one) => sum + (one[name] ?? 0), 0);
    const requests = total("requests");
    const firsts = last.map((one) => one.first_p50).filter((one) => one !== null && one !== undefined).sort((a, b) => a - b);
    const slow = last.map((one) => one.first_p95 ?? 0);
    const usable = now.upstreams.reduce((sum, one) => sum + one.usable, 0);
    const all = now.upstreams.reduce((sum, one) => sum + one.credentials, 0);
    const halted = now.upstreams.filter((one) => one.state === "halted").map((one) => one.name);
    this.set("rate", count(requests), "in the last minute");
    this.set("errors", requests ? percent(total("errors") / requests) : "0 %", `${count(total("errors"))} in the last minute`);
    this.set("first", firsts.length ? seconds(firsts[Math.floor(firsts.length / 2)]) : "–", firsts.length ? `at worst ${seconds(Math.max(...slow))}` : "no request yet");
    this.set("tokens", count(total("tokens_in") + total("tokens_out")), `${count(total("tokens_in"))} in, ${count(total("tokens_out"))} out`);
    this.set("flight", count(now.in_flight), `${count(now.streams)} streams, ${count(now.waiting)} waiting`);
    this.set("pool", `${usable} of ${all}`, halted.length ? `halted: ${halted.join(", ")}` : "usable");
  }

  set(name, value, note) {
    text(this.values[name][0], value);
    text(this.values[name][1], note);
  }
}

function ranges(change) {
  return h(
    "fieldset",
    { class: "choice" },
    h("legend", { class: "unseen" }, "Range"),
    Object.entries(RANGES).map(([name, range]) =>
      h("label", {}, h("input", { type: "radio", name: "range", value: name, checked: name === chosen, onchange: () => change(name) }), h("span", {}, range.label)),
    ),
  );
}

function drawLive(charts) {
  const rows = live.seconds;
  const times = rows.map((one) => one.time);
  const of = (name) => rows.map((one) => one[name] ?? null);
  const total = (name) => rows.reduce((sum, one) => sum + (one[name] ?? 0), 0);
  const now = times.at(-1) ?? Date.now() / 1000;
  const range = [now - 300, now];
  charts.traffic.set([times, of("requests"), of("errors")], `a second; ${count(total("requests"))} in all`, range);
  charts.latency.set([times, of("first_p50"), of("seconds_p95")], "half of first bytes, 95 % of whole answers", range);
  charts.tokens.set([times, of("tokens_in"), of("tokens_out")], `a second; ${count(total("tokens_in") + total("tokens_out"))} in all`, range);
  charts.flight.set([times, of("in_flight"), of("waiting")], `${count(live.state?.in_flight)} just now`, range);
}

/** Fill in what usage tells: sums over time, and tables. */
async function past(charts, tables, sum) {
  const range = RANGES[chosen];
  const since = range.since ?? "24h";
  try {
    const [over, ...told] = await Promise.all([
      range.by ? get(`/v1/usage?since=${since}&by=${range.by}`) : null,
      ...Object.keys(TABLES).map((by) => get(`/v1/usage?since=${since}&by=${by}`)),
    ]);
    await learn();
    if (over && RANGES[chosen] === range) drawPast(charts, over, range);
    const total = told[0].total;
    text(sum, `${RANGES[chosen].since ? RANGES[chosen].label : "24 hours"}: ${count(total.requests)} requests, ${count(total.prompt + total.candidates + total.thoughts)} tokens, ${money(total.micros)}`);
    tables.replaceChildren(...Object.keys(TABLES).map((by, at) => table(TABLES[by], by, told[at].rows)));
  } catch (error) {
    if (error.code === 404) {
      tables.replaceChildren();
      text(sum, "Usage is not kept; see `usage` in the configuration.");
    } else text(sum, error.message);
  }
}

function drawPast(charts, told, range) {
  const rows = new Map(told.rows.map((row) => [Date.parse(row[range.by]) / 1000, row]));
  const now = Math.floor(Date.now() / 1000 / range.step) * range.step;
  const times = Array.from({ length: Math.round(range.long / range.step) + 1 }, (_, at) => now - range.long + at * range.step);
  const of = (make) => times.map((time) => (rows.has(time) ? make(rows.get(time)) : 0));
  const mean = (name, by) => times.map((time) => (rows.get(time)?.[by] ? rows.get(time)[name] / rows.get(time)[by] : null));
  const unit = range.by === "hour" ? "an hour" : "a day";
  const total = told.total;
  charts.traffic.set([times, of((row) => row.requests), of((row) => row.failed)], `${unit}; ${count(total.requests)} in all, ${count(total.failed)} failed`);
  charts.latency.set([times, mean("first_seconds", "firsts"), mean("seconds", "requests")], "on average");
  charts.tokens.set([times, of((row) => row.prompt), of((row) => row.candidates + row.thoughts)], `${unit}; ${count(total.prompt + total.candidates + total.thoughts)} in all`);
  charts.cost.set([times, of((row) => row.micros)], `${unit}; ${money(total.micros)} in all`);
}

function table(caption, by, rows) {
  const most = Math.max(1, ...rows.map((row) => row.prompt + row.candidates + row.thoughts));
  const body = rows.slice(0, 8).map((row) => {
    const tokens = row.prompt + row.candidates + row.thoughts;
    return h(
      "tr",
      {},
      h("th", { scope: "row", title: row[by] }, (by === "key" ? keyName(row[by]) : row[by]) || "–", h("span", { class: "share", style: { "--part": tokens / most } })),
      h("td", {}, count(row.requests)),
      h("td", {}, count(tokens)),
      h("td", {}, money(row.micros)),
    );
  });
  return h(
    "section",
    { class: "card" },
    h(
      "table",
      {},
      h("caption", {}, caption),
      h("thead", {}, h("tr", {}, ["", "requests", "tokens", "cost"].map((one) => (one ? h("th", { scope: "col" }, one) : h("td", {}))))),
      h("tbody", {}, body.length ? body : h("tr", {}, h("td", { colspan: 4, class: "muted" }, "Nothing yet."))),
    ),
  );
}
