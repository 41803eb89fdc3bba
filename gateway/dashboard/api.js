// The admin API: what is asked, and that nobody is signed in any more.

export class ApiError extends Error {
  constructor(code, reason, message) {
    super(message);
    this.code = code;
    this.reason = reason;
  }
}

const MARK = { "X-Antigravity-Request": "1" };

/** Send a request, and return the response; raises ApiError for one that is an error. */
export async function ask(method, path, body, signal) {
  const headers = body === undefined ? MARK : { ...MARK, "Content-Type": "application/json" };
  let response;
  try {
    response = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body), signal, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "UNREACHABLE", "The gateway does not answer.");
  }
  if (response.ok) return response;
  const told = (await response.json().catch(() => ({}))).error ?? {};
  if (response.status === 401 && path !== "/v1/session") window.dispatchEvent(new Event("signed-out"));
  throw new ApiError(response.status, told.reason ?? "", told.message ?? `The gateway answered with ${response.status}.`);
}

const json = async (method, path, body) => (await ask(method, path, body)).json();

export const get = (path) => json("GET", path);
export const post = (path, body) => json("POST", path, body);
export const patch = (path, body) => json("PATCH", path, body);
export const remove = (path) => json("DELETE", path);

/** A name as a part of a path. */
export const part = encodeURIComponent;

/** Yield the events of a stream: {event, data}. */
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    waiting += value;
    const blocks = waiting.split("\n\n");
    waiting = blocks.pop();
    for (const block of blocks) {
      const found = { event: "message", data: "" };
      for (const line of block.split("\n")) {
        if (line.startsWith("event: ")) found.event = line.slice(7);
        if (line.startsWith("data: ")) found.data += line.slice(6);
      }
      if (found.data) yield found;
    }
  }
}
