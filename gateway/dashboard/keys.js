// Client keys: made, limited, rotated, revoked, and what they have used.

import { get, part, patch, post } from "./api.js";
import { badge, button, confirmed, copied, dialog, field, h, text, toast } from "./dom.js";
import { ago, count, money, span } from "./format.js";

export const title = "Keys";

const LIMITS = {
  requests_per_minute: ["Requests a minute"],
  concurrent: ["Requests at a time"],
  tokens_per_minute: ["Tokens a minute"],
  tokens_per_day: ["Tokens a day"],
  micros_per_day: ["Dollars a day", 1e6],
  micros_per_month: ["Dollars a month", 1e6],
};

export function render(main) {
  const list = h("div", { class: "grid cards" });
  const note = h("p", { class: "empty", "aria-live": "polite" }, "Loading…");
  const revoked = h("input", { type: "checkbox", onchange: () => look() });
  main.append(
    h("div", { class: "bar" }, h("div", { class: "actions" }, button("Make a key", async () => make(look), "primary")), h("label", { class: "check" }, revoked, "Show revoked")),
    note,
    list,
  );
  let last = "";
  const look = async () => {
    try {
      const { keys } = await get("/v1/keys");
      const shown = keys.filter((key) => revoked.checked || key.state !== "revoked");
      note.hidden = shown.length > 0;
      text(note, "There is no client key yet.");
      const fresh = JSON.stringify(shown);
      // What is being used by a keyboard stays as it is.
      if (fresh !== last && !list.contains(document.activeElement)) {
        last = fresh;
        list.replaceChildren(...shown.map((key) => card(key, look)));
      }
    } catch (error) {
      note.hidden = false;
      text(note, error.code === 404 ? "This gateway makes no keys." : error.message);
    }
  };
  look();
  const timer = setInterval(() => document.hidden || look(), 3000);
  return () => clearInterval(timer);
}

function card(key, look) {
  const path = `/v1/keys/${part(key.id)}`;
  const again = () => {
    document.activeElement?.blur();
    return look();
  };
  const own = key.source !== "configuration" && key.created !== undefined;
  const facts = [
    `last used ${ago(key.last_used)}`,
    `${key.under_way} under way`,
    key.expires && `expires ${new Date(key.expires).toLocaleDateString()}`,
    key.models?.length && `models ${key.models.join(", ")}`,
    key.networks?.length && `from ${key.networks.join(", ")}`,
  ].filter(Boolean);
  const used = (label, window) => h("div", {}, h("span", { class: "muted" }, label), h("strong", {}, count(window.requests)), h("span", { class: "muted" }, `${count(window.tokens)} tokens · ${money(window.micros)}`));
  return h(
    "article",
    { class: "card account" },
    h("div", { class: "head" }, h("div", { class: "clip" }, h("h2", {}, key.name || key.id), key.name && key.name !== key.id && h("p", { class: "muted clip" }, key.id)), h("p", { class: "state" }, badge(key.state))),
    h("div", { class: "used" }, used("Requests today", key.usage.day), used("This month", key.usage.month)),
    h("div", { class: "quotas" }, key.limits.map(limit)),
    h("p", { class: "muted" }, facts.join(" · ")),
    own && key.state !== "revoked" && h(
      "div",
      { class: "actions" },
      button("Change", async () => change(key, again), "", { "aria-label": `Change ${key.name}` }),
      button("Rotate", async () => rotate(key, path, again), "", { "aria-label": `Rotate ${key.name}` }),
      button("Revoke", async () => confirmed(`Revoke ${key.name}?`, "Whoever shows it is refused at once, and for good.", "Revoke", async () => {
        await post(`${path}/revoke`);
        toast(`${key.name} is revoked.`);
        await again();
      }), "quiet", { "aria-label": `Revoke ${key.name}` }),
    ),
    !own && h("p", { class: "muted" }, "It stands in the configuration."),
  );
}

function limit(one) {
  const share = one.value ? Math.min(one.used / one.value, 1) : 0;
  const show = one.limit.startsWith("micros") ? money : count;
  const kind = share < 0.7 ? "good" : share < 1 ? "warn" : "bad";
  const label = LIMITS[one.limit]?.[0] ?? one.limit.replaceAll("_", " ");
  const renews = one.renews && one.used ? ` Renewed in ${span((Date.parse(one.renews) - Date.now()) / 1000)}.` : "";
  return h(
    "div",
    { class: "quota" },
    h("span", { class: "clip" }, label),
    h("span", { class: `meter ${kind}`, role: "meter", "aria-label": `${label}: used`, "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": Math.round(share * 100), style: { "--part": share } }),
    h("span", { title: `${show(one.left)} left.${renews}` }, `${show(one.used)} / ${show(one.value)}`),
  );
}

const number = (name, step, value) => h("input", { name, type: "number", min: 0, step, inputmode: "decimal", value: value ?? "" });

function fields(key) {
  return [
    field("Models", h("input", { name: "models", autocomplete: "off", value: key?.models?.join(", ") ?? "" }), "Ids or patterns with *, separated by commas; empty for all."),
    field("Addresses", h("input", { name: "networks", autocomplete: "off", value: key?.networks?.join(", ") ?? "" }), "Such as 10.0.0.0/24; empty for everywhere."),
    field("Expires", h("input", { name: "expires", type: "date", value: key?.expires?.slice(0, 10) ?? "" })),
    h("fieldset", { class: "limits" }, h("legend", {}, "Limits"), h("p", { class: "muted" }, "Empty for the configuration's, 0 for none."), h("div", { class: "grid pairs" }, Object.entries(LIMITS).map(([name, [label, scale]]) => {
      const value = key?.[name];
      return field(label, number(name, scale ? "0.000001" : "1", value === null || value === undefined ? "" : scale ? value / scale : value));
    }))),
  ];
}

function wish(data) {
  const list = (value) => value.split(",").map((one) => one.trim()).filter(Boolean);
  const told = { models: list(data.models), networks: list(data.networks), expires: data.expires ? `${data.expires}T00:00:00Z` : null };
  for (const [name, [, scale]] of Object.entries(LIMITS)) told[name] = data[name] === "" ? null : Math.round(Number(data[name]) * (scale ?? 1));
  return told;
}

function make(look) {
  dialog("Make a client key", [field("Name", h("input", { name: "name", required: true, maxlength: 64, autocomplete: "off" }), "Who it is for."), fields()], "Make", async (data) => {
    const made = await post("/v1/keys", { name: data.name.trim(), ...wish(data) });
    await look();
    reveal(made);
  });
}

function change(key, again) {
  dialog(`Change ${key.name}`, fields(key), "Save", async (data) => {
    await patch(`/v1/keys/${part(key.id)}`, wish(data));
    toast(`${key.name} is changed.`);
    await again();
  });
}

function rotate(key, path, again) {
  dialog(`Rotate ${key.name}`, field("The old secret is good for", h("select", { name: "grace" }, [["0", "no longer"], ["3600", "an hour more"], ["86400", "a day more"], ["604800", "a week more"]].map(([value, label]) => h("option", { value }, label)))), "Rotate", async (data) => {
    const made = await post(`${path}/rotate`, { grace_seconds: Number(data.grace) });
    await again();
    reveal(made);
  });
}

/** Show a key, this once. */
function reveal(made) {
  dialog(`Key of ${made.key.name}`, [h("p", {}, "Copy it now: it is not shown again."), h("div", { class: "secret" }, h("code", { id: "made-key", tabindex: "0" }, made.secret), copied(made.secret))]);
}
