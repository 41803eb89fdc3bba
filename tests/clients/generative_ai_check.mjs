// @google/generative-ai against a gateway: node generative_ai_check.mjs BASE KEY
// This SDK has no models.list and no models.get, so those two checks are plain requests with its key.
import assert from "node:assert/strict";
import { FinishReason, GoogleGenerativeAI, GoogleGenerativeAIFetchError, SchemaType } from "@google/generative-ai";
import { BROKEN, ROUGH, base, given, key, rejection, run } from "./checklist.mjs";

const options = { baseUrl: base, ...(given.apiVersion && { apiVersion: given.apiVersion }) };
const sdk = new GoogleGenerativeAI(key);
const named = (model, more = {}) => sdk.getGenerativeModel({ model, ...more }, options);
const model = named(given.model);
const embedding = named(given.embeddingModel);
const PROMPT = "Tell me about the nightingale";
const weather = {
  functionDeclarations: [
    {
      name: "get_weather",
      description: "The weather in a city",
      parameters: {
        type: SchemaType.OBJECT,
        properties: { city: { type: SchemaType.STRING } },
        required: ["city"],
      },
    },
  ],
};

async function gather({ stream }) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

async function read(word) {
  const result = await model.generateContentStream(`Tell me about ${word}`);
  // Nobody may be left to wait for a promise that fails.
  result.response.catch(() => {});
  return (await gather(result)).map((chunk) => chunk.text());
}

async function failure(status, action) {
  const error = await rejection(action);
  assert.ok(error instanceof GoogleGenerativeAIFetchError, `${error}`);
  assert.equal(error.status, status, error.message);
  return error;
}

async function fetched(path) {
  const answer = await fetch(`${base}/v1beta/${path}`, { headers: { "x-goog-api-key": key } });
  assert.equal(answer.status, 200);
  return answer.json();
}

const text = async (prompt) => (await model.generateContent(prompt)).response.text();
const prompted = async (prompt) =>
  (await model.generateContent(prompt)).response.usageMetadata.promptTokenCount;

await run({
  async list() {
    const { models } = await fetched("models");
    assert.ok(models.some((one) => one.name === `models/${given.model}`));
    return { models: models.length };
  },

  async display_names() {
    const { models } = await fetched("models");
    for (const one of models) assert.equal(one.displayName, one.name.replace(/^models\//, ""));
    return {};
  },

  async get() {
    const { name } = await fetched(`models/${given.model}`);
    assert.equal(name, `models/${given.model}`);
    return { name };
  },

  async generate() {
    const first = await text(PROMPT);
    assert.match(first, /nightingale/);
    assert.match(await text("Tell me about the woodpecker"), /woodpecker/);
    return { text: first };
  },

  async limit() {
    const { response } = await named(given.model, { generationConfig: { maxOutputTokens: 2 } }).generateContent(
      PROMPT,
    );
    assert.equal(response.candidates[0].finishReason, FinishReason.MAX_TOKENS);
    return {};
  },

  async stream() {
    const result = await model.generateContentStream(PROMPT);
    const chunks = await gather(result);
    const joined = chunks.map((chunk) => chunk.text()).join("");
    assert.ok(chunks.length > 1, joined);
    assert.equal(joined, await text(PROMPT));
    assert.equal((await result.response).text(), joined);
    return { chunks: chunks.length, text: joined };
  },

  async rough() {
    for (const word of ROUGH) {
      const chunks = await read(word);
      assert.ok(chunks.length > 1, word);
      assert.match(chunks.join(""), /That is all\.$/, word);
    }
    return { streams: ROUGH.length };
  },

  async broken() {
    const raised = {};
    for (const word of BROKEN) raised[word] = (await rejection(() => read(word))).name;
    return raised;
  },

  async chat() {
    const chat = model.startChat();
    await chat.sendMessage("My name is Ferdinand");
    const second = (await chat.sendMessage("What is my name?")).response;
    const history = await chat.getHistory();
    assert.deepEqual(history.map((turn) => turn.role), ["user", "model", "user", "model"]);
    const seen = second.usageMetadata.promptTokenCount;
    const without = await prompted("What is my name?");
    assert.ok(seen > without, `${seen} ${without}`);
    assert.equal((await model.countTokens({ contents: history.slice(0, 3) })).totalTokens, seen);
    assert.match(second.text(), /Ferdinand/);
    return { prompt_tokens: seen, without_history: without, text: second.text() };
  },

  async chat_stream() {
    const chat = model.startChat();
    await chat.sendMessage("My name is Ferdinand");
    const chunks = await gather(await chat.sendMessageStream("What is my name?"));
    assert.ok(chunks.length > 1);
    assert.match(chunks.map((chunk) => chunk.text()).join(""), /Ferdinand/);
    assert.equal((await chat.getHistory()).length, 4);
    return { chunks: chunks.length };
  },

  async count() {
    const count = async (prompt) => (await model.countTokens(prompt)).totalTokens;
    const [short, long] = [await count("a few words"), await count("a few words ".repeat(50))];
    assert.ok(short > 0 && long > short, `${short} ${long}`);
    assert.equal(await prompted("a few words"), short);
    return { short, long };
  },

  async embed() {
    const vector = async (prompt) => (await embedding.embedContent(prompt)).embedding.values;
    const [one, other] = [await vector("a nightingale"), await vector("a woodpecker")];
    assert.ok(one.length > 1);
    assert.equal(other.length, one.length);
    assert.deepEqual(await vector("a nightingale"), one);
    assert.notDeepEqual(other, one);
    return { length: one.length };
  },

  async embed_batch() {
    const texts = ["a nightingale", "a woodpecker"];
    const requests = texts.map((one) => ({ content: { role: "user", parts: [{ text: one }] } }));
    const vectors = (await embedding.batchEmbedContents({ requests })).embeddings.map(({ values }) => values);
    const singles = [];
    for (const one of texts) singles.push((await embedding.embedContent(one)).embedding.values);
    assert.deepEqual(vectors, singles);
    return { vectors: vectors.length };
  },

  async embed_unimplemented() {
    const error = await failure(501, () => embedding.embedContent("a nightingale"));
    assert.match(error.message, /aistudio/);
    return { message: error.message };
  },

  async unknown_model() {
    const unknown = named("no-such-model");
    const error = await failure(404, () => unknown.generateContent("Hello"));
    await failure(404, () => unknown.generateContentStream("Hello"));
    assert.match(error.message, /no-such-model/);
    return { message: error.message };
  },

  async unknown_key() {
    const stranger = new GoogleGenerativeAI("bad-key").getGenerativeModel({ model: given.model }, options);
    const error = await failure(given.unknownKeyCode, () => stranger.generateContent("Hello"));
    await failure(given.unknownKeyCode, () => stranger.generateContentStream("Hello"));
    return { message: error.message };
  },

  async tools() {
    const chat = named(given.model, { tools: [weather] }).startChat();
    const asked = (await chat.sendMessage("What is the weather in Lisbon?")).response;
    const [call] = asked.functionCalls();
    assert.equal(call.name, "get_weather");
    assert.ok("city" in call.args);
    const part = { functionResponse: { name: call.name, response: { sky: "thunderstorm" } } };
    const answered = (await chat.sendMessage([part])).response;
    assert.equal(answered.functionCalls(), undefined);
    assert.match(answered.text(), /thunderstorm/);
    return { arguments: call.args, text: answered.text() };
  },
});
