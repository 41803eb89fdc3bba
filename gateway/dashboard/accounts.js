// The credentials: their states, quotas and cool-downs, and what can be done about them.

import { get, part, post, remove } from "./api.js";
import { badge, button, confirmed, dialog, field, h, text, toast } from "./dom.js";
import { ago, percent, span } from "./format.js";
import { follow, live } from "./live.js";

export const title = "Accounts";

const path = (row) => `/v1/accounts/${part(row.upstream)}/${part(row.name)}`;

export function render(main) {
  const upstreams = h("div", { class: "stack" });
  const cards = new Map();
  const filter = h("input", { type: "search", placeholder: "Name, state or reason", oninput: () => sift() });
  const list = h("div", { class: "grid cards" });
  const empty = h("p", { class: "empty" }, "There is no credential yet. Add an API key or a service account, or sign an account in.");
  const add = h("div", { class: "actions" });
  main.append(h("div", { class: "bar" }, add, field("Filter", filter)), upstreams, empty, list);

  const sift = () => {
    const wanted = filter.value.trim().toLowerCase();
    for (const card of cards.values()) card.element.hidden = wanted !== "" && !card.words.includes(wanted);
  };
  let kinds = "";
  const update = () => {
    empty.hidden = live.accounts.length > 0 || !live.state;
    const present = new Set();
    for (const row of live.accounts) {
      const id = `${row.upstream}/${row.name}`;
      present.add(id);
      if (!cards.has(id)) {
        cards.set(id, new Card());
        list.append(cards.get(id).element);
      }
      cards.get(id).update(row);
    }
    for (const [id, card] of cards) {
      if (!present.has(id)) {
        card.element.remove();
        cards.delete(id);
      }
    }
    sift();
    const now = live.state?.upstreams ?? [];
    const halted = now.filter((one) => one.state === "halted");
    upstreams.replaceChildren(...halted.map(stopped));
    const fresh = now.map((one) => `${one.name}:${one.kind}`).join();
    if (fresh !== kinds) {
      kinds = fresh;
      add.replaceChildren(...adding(now));
    }
  };
  return follow(["accounts", "state"], update);
}

class Card {
  constructor() {
    this.heading = h("h2", {});
    this.label = h("p", { class: "muted clip" });
    this.state = h("p", { class: "state" });
    this.rests = h("ul", { class: "rests" });
    this.quota = h("div", { class: "quotas" });
    this.facts = h("p", { class: "muted" });
    this.toggle = button("Disable", () => this.act(this.row.state === "disabled" ? "enable" : "disable"));
    this.clear = button("Clear", () => this.act("clear"));
    this.test = button("Test", () => this.tried());
    this.away = button("Remove", () => this.removed(), "quiet");
    this.element = h(
      "article",
      { class: "card account" },
      h("div", { class: "head" }, h("div", { class: "clip" }, this.heading, this.label), this.state),
      this.rests,
      this.quota,
      this.facts,
      h("div", { class: "actions" }, this.toggle, this.test, this.clear, this.away),
    );
  }

  update(row) {
    const before = this.shown;
    this.row = row;
    this.words = [row.upstream, row.name, row.label, row.kind, row.state, row.reason, row.project].join(" ").toLowerCase();
    text(this.facts, [
      `last used ${ago(row.last_used)}`,
      `${row.in_flight} under way`,
      row.weight !== 1 && `weight ${row.weight}`,
      row.priority !== 0 && `priority ${row.priority}`,
      row.max_concurrent && `at most ${row.max_concurrent}`,
    ].filter(Boolean).join(" · "));
    this.shown = JSON.stringify({ ...row, last_used: 0, in_flight: 0 });
    if (this.shown === before) return;
    const full = `${row.upstream}/${row.name}`;
    text(this.heading, full);
    text(this.label, [row.kind, row.project, row.label !== full && `seen as ${row.label}`].filter(Boolean).join(" · "));
    this.state.replaceChildren(badge(row.state), row.reason ? h("span", { class: "reason" }, row.reason) : "");
    this.rests.replaceChildren(...row.models.map(rest), ...(row.link ? [h("li", {}, "Its owner must open ", h("a", { href: safe(row.link), rel: "noreferrer noopener", target: "_blank" }, "this page"), ".")] : []));
    this.quota.replaceChildren(...row.quota.slice().sort((a, b) => a.remaining - b.remaining).slice(0, 6).map(bar));
    text(this.toggle, row.state === "disabled" ? "Enable" : "Disable");
    this.away.hidden = !row.in_file;
    for (const one of [this.toggle, this.clear, this.test, this.away]) one.setAttribute("aria-label", `${one.textContent} ${full}`);
  }

  async act(action) {
    const told = await post(`${path(this.row)}/${action}`);
    toast(told.changed ? `${this.row.upstream}/${this.row.name} is ${told.account.state}.` : "That changed nothing.");
    this.update(told.account);
  }

  async tried() {
    const told = await post(`${path(this.row)}/test`);
    toast(`${this.row.upstream}/${this.row.name}: ${told.message || (told.good ? "good" : told.reason)}`, told.good ? "good" : "bad");
    this.update(told.account);
  }

  removed() {
    const { upstream, name } = this.row;
    confirmed(`Remove ${upstream}/${name}?`, "Its file is deleted. Nothing is revoked at Google; requests under way end as they would.", "Remove", async () => {
      await remove(path(this.row));
      toast(`${upstream}/${name} is removed.`);
    });
  }
}

const safe = (link) => (link.startsWith("https://") ? link : "#");

function rest(model) {
  const until = model.next_try ?? model.until;
  return h("li", {}, h("span", {}, `${model.model || "all models"}: ${model.state} ${model.reason}`), until && h("span", { class: "until" }, "for ", h("time", { datetime: until, "data-until": until }, span((Date.parse(until) - Date.now()) / 1000))));
}

function bar(quota) {
  const kind = quota.remaining > 0.5 ? "good" : quota.remaining > 0.15 ? "warn" : "bad";
  const renews = quota.reset ? `, renewed ${new Date(quota.reset).toLocaleString([], { hour12: false, dateStyle: "short", timeStyle: "short" })}` : "";
  return h(
    "div",
    { class: "quota" },
    h("span", { class: "clip" }, quota.model),
    h("span", { class: `meter ${kind}`, role: "meter", "aria-label": `Quota of ${quota.model}`, "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": Math.round(quota.remaining * 100), style: { "--part": quota.remaining } }),
    h("span", { title: `${percent(quota.remaining)} left${renews}` }, percent(quota.remaining)),
  );
}

function stopped(upstream) {
  return h("div", { class: "card notice" }, h("p", {}, h("strong", {}, `Upstream ${upstream.name} stands still: `), upstream.reason, ". Two of its accounts were refused for reasons that only their owners can put right."), button("Resume", async () => {
    await post(`/v1/upstreams/${part(upstream.name)}/resume`);
    toast(`${upstream.name} goes on.`);
  }, "danger"));
}

function adding(upstreams) {
  const of = (kind) => upstreams.filter((one) => one.kind === kind).map((one) => one.name);
  return [
    of("aistudio").length && button("Add API key", async () => addKey(of("aistudio")), "primary"),
    of("vertex").length && button("Add service account", async () => addService(of("vertex"))),
    of("codeassist").length && button("Sign in", async () => signIn(of("codeassist"))),
  ].filter(Boolean);
}

const where = (names) => field("Upstream", h("select", { name: "upstream" }, names.map((name) => h("option", {}, name))));
const named = () => h("input", { name: "name", required: true, pattern: "[A-Za-z0-9][A-Za-z0-9._\\-]*", maxlength: 200, autocomplete: "off" });
const NAME = "Letters, digits, dots, dashes; logs and answers show it.";

function addKey(names) {
  dialog("Add an API key", [
    where(names),
    field("Name", named(), NAME),
    field("API key", h("input", { name: "api_key", type: "password", required: true, autocomplete: "off", maxlength: 1024 })),
    field("Google project", h("input", { name: "project", autocomplete: "off" }), "Keys of one project share its quota; empty if unknown."),
  ], "Add", (data) => kept(data.upstream, { name: data.name, api_key: data.api_key.trim(), project: data.project.trim() }));
}

function addService(names) {
  dialog("Add a service account", [
    where(names),
    field("Name", named(), NAME),
    field("Key file", h("textarea", { name: "service_account", rows: 6, required: true, spellcheck: "false", autocomplete: "off" }), "Google's JSON, whole."),
    field("Google project", h("input", { name: "project", autocomplete: "off" }), "Empty for the key file's own."),
  ], "Add", async (data) => {
    let account;
    try {
      account = JSON.parse(data.service_account);
    } catch {
      throw new Error("The key file is not JSON.");
    }
    await kept(data.upstream, { name: data.name, service_account: account, project: data.project.trim() });
  });
}

async function kept(upstream, document) {
  const told = await post(`/v1/upstreams/${part(upstream)}/credentials`, Object.fromEntries(Object.entries(document).filter(([, value]) => value !== "")));
  toast(`${told.renewed ? "Renewed" : "Added"} ${told.upstream}/${told.name}.`);
}

function signIn(names) {
  dialog("Sign an account in", [where(names), field("Name", h("input", { name: "name", pattern: "[A-Za-z0-9][A-Za-z0-9._\\-]*", autocomplete: "off" }), "Empty for the account's address.")], "Begin", async (data) => {
    follows(await post(`/v1/upstreams/${part(data.upstream)}/sign-ins`, data.name ? { name: data.name } : {}));
  });
}

/** Lead through a sign-in that has begun, and watch it. */
function follows(begun) {
  const one = `/v1/sign-ins/${part(begun.id)}`;
  const pasted = h("input", { name: "answer", autocomplete: "off", spellcheck: "false" });
  const told = h("ul", { class: "told", "aria-live": "polite" });
  let timer = null;
  const box = dialog("Sign an account in", [
    h("p", {}, h("a", { class: "button primary", href: begun.url, target: "_blank", rel: "noreferrer noopener" }, "Open Google's sign-in")),
    field("Address of the last page", pasted, "If the browser's last page does not load, as where this gateway runs on another machine, paste its address here."),
    told,
  ], "Go on", async (data) => {
    if (data.answer) await post(one, { answer: data.answer });
    return false;
  });
  const look = async () => {
    const row = await get(one).catch((error) => ({ state: "failed", messages: [error.message] }));
    told.replaceChildren(...row.messages.map((message) => h("li", {}, message)));
    if (row.state === "done") {
      toast(`${row.account} is signed in.`);
      box.close();
    } else if (row.state !== "failed") timer = setTimeout(look, 1500);
  };
  box.addEventListener("close", () => {
    clearTimeout(timer);
    remove(one).catch(() => {});
  });
  look();
}
