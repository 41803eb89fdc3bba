// A prompt tried through the pool; nothing of it is kept.

import { ask, events, get, part } from "./api.js";
import { during, field, h, text } from "./dom.js";
import { count, seconds } from "./format.js";

export const title = "Playground";

export function render(main) {
  const known = h("datalist", { id: "models" });
  const model = h("input", { name: "model", list: "models", value: "gemini-2.5-flash", required: true, autocomplete: "off", spellcheck: "false" });
  const system = h("textarea", { name: "system", rows: 2 });
  const temperature = h("input", { name: "temperature", type: "number", min: 0, max: 2, step: 0.1, placeholder: "usual" });
  const most = h("input", { name: "most", type: "number", min: 1, step: 1, placeholder: "usual" });
  const prompt = h("textarea", { name: "prompt", rows: 6, required: true, placeholder: "Ctrl+Enter sends" });
  const send = h("button", { type: "submit", class: "primary" }, "Send");
  const stop = h("button", { type: "button", disabled: true }, "Stop");
  const answer = h("div", { class: "answer", "aria-live": "polite", "aria-busy": "false", tabindex: "0", role: "region", "aria-label": "Answer" });
  const facts = h("p", { class: "muted", "aria-live": "polite" });
  const form = h(
    "form",
    { class: "card stack" },
    known,
    h("div", { class: "grid triple" }, field("Model", model), field("Temperature", temperature), field("Tokens at most", most)),
    field("System instruction", system),
    field("Prompt", prompt),
    h("div", { class: "actions" }, send, stop),
  );
  main.append(h("p", { class: "muted" }, "The prompt goes through the pool as a client's would, as yourself and without a key. Neither it nor the answer is kept."), h("div", { class: "grid halves" }, form, h("section", { class: "card stack" }, h("h2", {}, "Answer"), answer, facts)));
  let running = null;
  stop.addEventListener("click", () => running?.abort());
  prompt.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (running) return;
    during(send, async () => {
      running = new AbortController();
      stop.disabled = false;
      answer.setAttribute("aria-busy", "true");
      answer.replaceChildren();
      text(facts, "");
      try {
        await run(model.value.trim(), wish(), running.signal, answer, facts);
      } finally {
        running = null;
        stop.disabled = true;
        answer.setAttribute("aria-busy", "false");
      }
    });
  });
  const wish = () => {
    const settings = {};
    if (temperature.value !== "") settings.temperature = Number(temperature.value);
    if (most.value !== "") settings.maxOutputTokens = Number(most.value);
    return {
      contents: [{ role: "user", parts: [{ text: prompt.value }] }],
      ...(system.value.trim() && { systemInstruction: { parts: [{ text: system.value }] } }),
      ...(Object.keys(settings).length && { generationConfig: settings }),
    };
  };
  get("/v1/models").then(({ models }) => known.append(...models.filter((one) => one.methods.includes("streamGenerateContent")).map((one) => h("option", { value: one.id }))), () => {});
  return () => running?.abort();
}

async function run(model, body, signal, answer, facts) {
  const began = performance.now();
  const passed = () => (performance.now() - began) / 1000;
  let routed = {}, first = null, usage = {}, finish = "";
  const tell = () => text(facts, [
    routed.credential && `${routed.model} through ${routed.credential}`,
    first !== null && `first words after ${seconds(first)}`,
    `${seconds(passed())} in all`,
    usage.promptTokenCount !== undefined && `${count(usage.promptTokenCount)} tokens in, ${count((usage.candidatesTokenCount ?? 0) + (usage.thoughtsTokenCount ?? 0))} out`,
    finish,
  ].filter(Boolean).join(" · "));
  const response = await ask("POST", `/v1/playground/${part(model)}`, body, signal);
  for await (const one of events(response)) {
    const told = JSON.parse(one.data);
    if (one.event === "routed") routed = told;
    else if (told.error) {
      answer.append(h("p", { class: "problem" }, `${told.error.code ?? ""} ${told.error.message ?? "The stream broke."}`));
      finish = "broken off";
    } else {
      first ??= passed();
      for (const piece of told.candidates?.[0]?.content?.parts ?? []) {
        if (piece.text) answer.append(piece.thought ? h("em", { class: "muted" }, piece.text) : piece.text);
        else if (!piece.thoughtSignature) answer.append(h("code", {}, JSON.stringify(piece).slice(0, 2000)));
      }
      usage = told.usageMetadata ?? usage;
      finish = told.candidates?.[0]?.finishReason ?? finish;
    }
    tell();
  }
  tell();
}
