// Run a client's checks and print one line of JSON for each.
import { parseArgs } from "node:util";

// As in checklist.py.
export const ROUGH = ["rough-done", "rough-crlf", "rough-dressed"];
export const BROKEN = ["broken-error", "broken-cut", "broken-reset"];

export const { given, base, key } = read();

function read() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      checks: { type: "string", default: "" },
      model: { type: "string", default: "gemini-2.5-flash" },
      "signing-model": { type: "string", default: "gemini-3-flash-preview" },
      "embedding-model": { type: "string", default: "gemini-embedding-001" },
      package: { type: "string", default: "@google/genai" },
      "api-version": { type: "string", default: "" },
      "unknown-key-code": { type: "string", default: "401" },
    },
  });
  const given = {
    model: values.model,
    signingModel: values["signing-model"],
    embeddingModel: values["embedding-model"],
    package: values.package,
    apiVersion: values["api-version"] || undefined,
    unknownKeyCode: Number(values["unknown-key-code"]),
    checks: values.checks ? values.checks.split(",") : [],
  };
  return { given, base: positionals[0], key: positionals[1] };
}

// checks: functions by name; each asserts, and returns what it saw.
export async function run(checks) {
  let failed = false;
  for (const name of given.checks.length ? given.checks : Object.keys(checks)) {
    let line;
    try {
      line = { check: name, ok: true, ...(await checks[name]()) };
    } catch (error) {
      failed = true;
      line = { check: name, ok: false, error: `${error?.name}: ${error?.message ?? error}` };
      console.error(error);
    }
    console.log(JSON.stringify(line));
  }
  process.exitCode = failed ? 1 : 0;
}

export async function rejection(action) {
  try {
    await action();
  } catch (error) {
    return error;
  }
  throw new Error("an error was expected, and there was none");
}
