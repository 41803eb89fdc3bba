// @google/genai against a gateway: node genai_check.mjs BASE KEY [--package NAME]
// The package can be one that package.json has under a second name, for another version.
import assert from "node:assert/strict";
import { BROKEN, ROUGH, base, given, key, rejection, run } from "./checklist.mjs";

const { ApiError, FinishReason, GoogleGenAI, Type, createPartFromFunctionResponse } = await import(given.package);

function connect(apiKey) {
  const httpOptions = { baseUrl: base, ...(given.apiVersion && { apiVersion: given.apiVersion }) };
  return new GoogleGenAI({ apiKey, vertexai: false, httpOptions });
}

const { models, chats } = connect(key);
const model = given.model;
const PROMPT = "Tell me about the nightingale";
const ask = (contents, config) => models.generateContent({ model, contents, config });
const weather = {
  functionDeclarations: [
    {
      name: "get_weather",
      description: "The weather in a city",
      parameters: { type: Type.OBJECT, properties: { city: { type: Type.STRING } }, required: ["city"] },
    },
  ],
};

async function gather(stream) {
  const chunks = [];
  for await (const chunk of await stream) chunks.push(chunk);
  return chunks;
}

async function read(word) {
  const contents = `Tell me about ${word}`;
  return (await gather(models.generateContentStream({ model, contents }))).map((chunk) => chunk.text ?? "");
}

async function names(config) {
  return gather(models.list({ config }));
}

async function failure(status, action) {
  const error = await rejection(action);
  assert.ok(error instanceof ApiError, `${error}`);
  const names = { 400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 404: "NOT_FOUND", 501: "UNIMPLEMENTED" };
  assert.equal(error.status, status, error.message);
  assert.equal(JSON.parse(error.message).error.status, names[status]);
  return error;
}

const embed = (contents, config) => models.embedContent({ model: given.embeddingModel, contents, config });

async function callAndAnswer(named) {
  const config = { tools: [weather] };
  const question = { role: "user", parts: [{ text: "What is the weather in Lisbon?" }] };
  const asked = await models.generateContent({ model: named, contents: [question], config });
  const content = asked.candidates[0].content;
  assert.ok(named === model || content.parts[0].thoughtSignature);
  const [call] = asked.functionCalls;
  assert.equal(call.name, "get_weather");
  assert.ok("city" in call.args);
  const part = createPartFromFunctionResponse(call.id ?? "", call.name, { sky: "thunderstorm" });
  const contents = [question, content, { role: "user", parts: [part] }];
  const answered = await models.generateContent({ model: named, contents, config });
  assert.equal(answered.functionCalls, undefined);
  assert.match(answered.text, /thunderstorm/);
  return { arguments: call.args, text: answered.text };
}

await run({
  async list() {
    const found = await names();
    const all = found.map((one) => one.name);
    assert.ok(all.includes(`models/${model}`), `${all}`);
    assert.deepEqual((await names({ pageSize: 2 })).map((one) => one.name), all);
    for (const one of found) assert.ok(one.supportedActions.length, one.name);
    return { models: all.length };
  },

  async display_names() {
    for (const one of await names()) assert.equal(one.displayName, one.name.replace(/^models\//, ""));
    return {};
  },

  async get() {
    const one = await models.get({ model });
    assert.equal(one.name, `models/${model}`);
    assert.ok(one.supportedActions.includes("generateContent"));
    return { name: one.name };
  },

  async generate() {
    const first = (await ask(PROMPT)).text;
    const second = (await ask("Tell me about the woodpecker")).text;
    assert.match(first, /nightingale/);
    assert.match(second, /woodpecker/);
    return { text: first };
  },

  async limit() {
    const answer = await ask(PROMPT, { maxOutputTokens: 2 });
    assert.equal(answer.candidates[0].finishReason, FinishReason.MAX_TOKENS);
    return { text: answer.text };
  },

  async stream() {
    const chunks = await gather(models.generateContentStream({ model, contents: PROMPT }));
    const text = chunks.map((chunk) => chunk.text ?? "").join("");
    assert.ok(chunks.length > 1, text);
    assert.equal(text, (await ask(PROMPT)).text);
    assert.equal(chunks.at(-1).candidates[0].finishReason, FinishReason.STOP);
    return { chunks: chunks.length, text };
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
    const chat = chats.create({ model });
    const first = await chat.sendMessage({ message: "My name is Ferdinand" });
    const second = await chat.sendMessage({ message: "What is my name?" });
    const history = chat.getHistory();
    assert.deepEqual(history.map((turn) => turn.role), ["user", "model", "user", "model"]);
    assert.equal(history[1].parts[0].text, first.text);
    const seen = second.usageMetadata.promptTokenCount;
    const without = (await ask("What is my name?")).usageMetadata.promptTokenCount;
    assert.ok(seen > without, `${seen} ${without}`);
    assert.equal((await models.countTokens({ model, contents: history.slice(0, 3) })).totalTokens, seen);
    assert.match(second.text, /Ferdinand/);
    return { prompt_tokens: seen, without_history: without, text: second.text };
  },

  async chat_stream() {
    const chat = chats.create({ model });
    await chat.sendMessage({ message: "My name is Ferdinand" });
    const chunks = await gather(chat.sendMessageStream({ message: "What is my name?" }));
    assert.ok(chunks.length > 1);
    assert.match(chunks.map((chunk) => chunk.text ?? "").join(""), /Ferdinand/);
    assert.equal(chat.getHistory().filter((turn) => turn.role === "user").length, 2);
    return { chunks: chunks.length };
  },

  async count() {
    const count = async (contents) => (await models.countTokens({ model, contents })).totalTokens;
    const [short, long] = [await count("a few words"), await count("a few words ".repeat(50))];
    assert.ok(short > 0 && long > short, `${short} ${long}`);
    assert.equal((await ask("a few words")).usageMetadata.promptTokenCount, short);
    return { short, long };
  },

  async embed() {
    const texts = ["a nightingale", "a woodpecker", "a nightingale"];
    const [one, other, again] = (await embed(texts)).embeddings.map((embedding) => embedding.values);
    assert.ok(one.length > 1);
    assert.equal(other.length, one.length);
    assert.deepEqual(again, one);
    assert.notDeepEqual(other, one);
    const short = await embed("a nightingale", { outputDimensionality: 64 });
    assert.equal(short.embeddings[0].values.length, 64);
    return { length: one.length };
  },

  async embed_unimplemented() {
    const error = await failure(501, () => embed("a nightingale"));
    assert.match(error.message, /aistudio/);
    return { message: error.message };
  },

  async embed_unserved() {
    const error = await rejection(() => embed("a nightingale"));
    assert.ok(error instanceof ApiError, `${error}`);
    assert.equal(error.status, 404);
    return { code: error.status };
  },

  async unknown_model() {
    const unknown = { model: "no-such-model", contents: "Hello" };
    const error = await failure(404, () => models.generateContent(unknown));
    await failure(404, () => gather(models.generateContentStream(unknown)));
    await failure(404, () => models.get(unknown));
    assert.match(error.message, /no-such-model/);
    return { message: error.message };
  },

  async unknown_key() {
    const stranger = connect("bad-key").models;
    const question = { model, contents: "Hello" };
    const error = await failure(given.unknownKeyCode, () => stranger.generateContent(question));
    await failure(given.unknownKeyCode, () => gather(stranger.generateContentStream(question)));
    return { message: error.message };
  },

  async tools() {
    return callAndAnswer(model);
  },

  // The simulator refuses a history whose thought signature is not the one that it gave.
  async signatures() {
    return callAndAnswer(given.signingModel);
  },

  async concurrent() {
    const streams = Array.from({ length: 20 }, (_, number) =>
      gather(models.generateContentStream({ model, contents: `Tell me about nightingale${number}x` })),
    );
    const texts = (await Promise.all(streams)).map((chunks) => chunks.map((one) => one.text ?? "").join(""));
    texts.forEach((text, number) => assert.match(text, new RegExp(`nightingale${number}x`)));
    return { streams: texts.length };
  },
});
