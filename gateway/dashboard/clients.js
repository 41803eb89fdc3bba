// How each client is pointed at this gateway.

import { get } from "./api.js";
import { copied, field, h, text } from "./dom.js";

export const title = "Set-up";

const MODEL = "gemini-2.5-flash";
/** Each client's lines, from a base URL and a key. */
const CLIENTS = {
  curl: (base, key) => `curl '${base}/v1beta/models/${MODEL}:generateContent' \\
  -H 'x-goog-api-key: ${key}' -H 'Content-Type: application/json' \\
  -d '{"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]}'`,
  "google-genai (Python)": (base, key) => `from google import genai
from google.genai import types

client = genai.Client(api_key="${key}", http_options=types.HttpOptions(base_url="${base}"))
print(client.models.generate_content(model="${MODEL}", contents="Hello").text)`,
  "google-genai, by its environment": (base, key) => `export GOOGLE_GEMINI_BASE_URL='${base}'
export GEMINI_API_KEY='${key}'`,
  "google-generativeai (Python)": (base, key) => `import google.generativeai as genai

genai.configure(api_key="${key}", transport="rest", client_options={"api_endpoint": "${base}"})`,
  "@google/genai (Node)": (base, key) => `import { GoogleGenAI } from "@google/genai";

const ai = new GoogleGenAI({ apiKey: "${key}", httpOptions: { baseUrl: "${base}" } });`,
  "@google/generative-ai (Node)": (base, key) => `const genAI = new GoogleGenerativeAI("${key}");
const model = genAI.getGenerativeModel({ model: "${MODEL}" }, { baseUrl: "${base}" });`,
  "gemini-cli": (base, key) => `export GOOGLE_GEMINI_BASE_URL='${base}'
export GEMINI_API_KEY='${key}'
# ~/.gemini/settings.json: {"security": {"auth": {"selectedType": "gemini-api-key"}}}
gemini`,
  "LangChain (Python)": (base, key) => `ChatGoogleGenerativeAI(model="${MODEL}", api_key="${key}", base_url="${base}")`,
  "LangChain (JS)": (base, key) => `new ChatGoogleGenerativeAI({ model: "${MODEL}", apiKey: "${key}", baseUrl: "${base}" })`,
  LlamaIndex: (base, key) => `GoogleGenAI(model="${MODEL}", api_key="${key}", http_options=HttpOptions(base_url="${base}"))`,
  "Pydantic AI": (base, key) => `GoogleModel("${MODEL}", provider=GoogleProvider(api_key="${key}", base_url="${base}"))`,
  Genkit: (base, key) => `googleAI({ apiKey: "${key}", baseUrl: "${base}" })`,
  "AI SDK": (base, key) => `createGoogleGenerativeAI({ apiKey: "${key}", baseURL: "${base}/v1beta" })`,
  LiteLLM: (base, key) => `completion(model="gemini/${MODEL}", api_key="${key}", api_base="${base}/v1beta", messages=messages)`,
};

export function render(main) {
  const base = h("input", { name: "base", type: "url", list: "bases", value: "http://127.0.0.1:8045", spellcheck: "false", oninput: () => draw() });
  const key = h("input", { name: "key", value: "KEY", spellcheck: "false", autocomplete: "off", oninput: () => draw() });
  const bases = h("datalist", { id: "bases" });
  const note = h("p", { class: "muted" });
  const shown = Object.entries(CLIENTS).map(([name, lines]) => {
    const code = h("code", {});
    const told = () => lines(base.value.replace(/\/+$/, ""), key.value || "KEY");
    return { told, code, element: h("section", { class: "card snippet" }, h("div", { class: "head" }, h("h2", {}, name), copied(told)), h("pre", { tabindex: "0", "aria-label": name }, code)) };
  });
  const draw = () => shown.forEach((one) => text(one.code, one.told()));
  main.append(
    h("section", { class: "card" }, bases, h("div", { class: "grid pairs" }, field("Base URL", base, "As clients reach this gateway."), field("Client key", key, "Stays in this page; KEY stands for one.")), note),
    h("div", { class: "grid snippets" }, shown.map((one) => one.element)),
  );
  draw();
  get("/v1/clients").then((told) => {
    const urls = told.base_urls;
    // On another machine the address that this page came from is the likelier one.
    const here = location.hostname;
    const nearer = urls.map((one) => one.replace("//localhost:", `//${here.includes(":") ? `[${here}]` : here}:`));
    bases.append(...[...new Set([...nearer, ...urls])].map((one) => h("option", { value: one })));
    if (nearer.length) base.value = nearer[0];
    text(note, told.keys_required ? "A client key is asked for: make one under Keys." : "No key is asked for: any text will do, where a client wants one.");
    draw();
  }, (error) => text(note, error.message));
}
