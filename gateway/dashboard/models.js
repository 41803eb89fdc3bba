// The models that are listed, the aliases, and where a request would go.

import { get } from "./api.js";
import { badge, during, field, h, text } from "./dom.js";
import { count, seconds } from "./format.js";

export const title = "Models";

export function render(main) {
  const filter = h("input", { type: "search", placeholder: "Id", oninput: () => draw() });
  const body = h("tbody", {});
  const aliases = h("section", { class: "card" });
  const note = h("p", { class: "muted", "aria-live": "polite" });
  let told = { models: [], aliases: [] };
  main.append(explaining(), aliases, h("div", { class: "bar" }, note, field("Filter", filter)), h("div", { class: "card flat" }, h("table", { class: "log" }, h("caption", { class: "unseen" }, "Models"), h("thead", {}, h("tr", {}, ["Model", "Upstreams", "Tokens in", "Tokens out", "Methods"].map((one) => h("th", { scope: "col" }, one)))), body)));
  const draw = () => {
    const wanted = filter.value.trim().toLowerCase();
    const found = told.models.filter((one) => one.id.toLowerCase().includes(wanted));
    text(note, `${count(found.length)} of ${count(told.models.length)} models`);
    body.replaceChildren(...found.map((one) => h(
      "tr",
      {},
      h("td", { "data-label": "Model" }, h("strong", {}, one.id), one.description && one.description !== one.id && h("small", { class: "muted" }, one.description)),
      h("td", { "data-label": "Upstreams" }, one.upstreams.join(", ") || "any"),
      h("td", { "data-label": "Tokens in" }, one.input_tokens ? count(one.input_tokens) : "–"),
      h("td", { "data-label": "Tokens out" }, one.output_tokens ? count(one.output_tokens) : "–"),
      h("td", { "data-label": "Methods" }, h("span", { class: "muted" }, one.methods.join(", "))),
    )));
  };
  get("/v1/models").then((models) => {
    told = models;
    aliases.replaceChildren(h("h2", {}, "Aliases"), told.aliases.length ? h("ul", { class: "plain" }, told.aliases.map((one) => h("li", {}, h("code", {}, one.pattern), " is ", h("code", {}, one.target)))) : h("p", { class: "muted" }, "None; see routing.aliases in the configuration."));
    draw();
  }, (error) => text(note, error.message));
}

/** A form that says where a request would go now. */
function explaining() {
  const model = h("input", { name: "model", value: "gemini-2.5-flash", required: true, autocomplete: "off", spellcheck: "false" });
  const send = h("button", { type: "submit" }, "Explain");
  const answer = h("div", { "aria-live": "polite" });
  const form = h("form", { class: "inline" }, field("Where would a request go?", model), send);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    during(send, async () => {
      const told = await get(`/v1/explain?model=${encodeURIComponent(model.value)}`);
      const line = (one) => h("li", { class: one.chosen ? "chosen" : null }, badge(one.state), h("span", { class: "clip" }, `${one.upstream}/${one.name}`), h("span", { class: "muted" }, one.chosen ? "would be chosen" : one.reason, one.free_seconds ? `, free in ${seconds(one.free_seconds)}` : ""));
      answer.replaceChildren(told.resolved !== told.model ? h("p", {}, `${told.model} is ${told.resolved}.`) : "", h("ul", { class: "options" }, told.options.map(line)));
    });
  });
  return h("section", { class: "card" }, form, answer);
}
