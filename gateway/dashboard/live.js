// What the gateway tells each second, kept for all pages.

const SECONDS_KEPT = 300;
const REQUESTS_KEPT = 500;

export const live = new EventTarget();
Object.assign(live, { state: null, accounts: [], requests: [], seconds: [], skipped: 0, connected: false });

let source = null;

/** Begin to listen; the browser connects anew by itself. */
export function begin() {
  if (source) return;
  source = new EventSource("/v1/live");
  source.addEventListener("open", () => connected(true));
  source.addEventListener("error", () => {
    connected(false);
    if (source?.readyState === EventSource.CLOSED) {
      end();
      // Signed out, or the gateway is gone for the moment: the session says which.
      setTimeout(() => window.dispatchEvent(new Event("look-again")), 1500);
    }
  });
  source.addEventListener("state", (event) => {
    const state = JSON.parse(event.data);
    live.state = state;
    live.seconds.push(state);
    if (live.seconds.length > SECONDS_KEPT) live.seconds.shift();
    tell("state");
  });
  source.addEventListener("accounts", (event) => {
    live.accounts = JSON.parse(event.data).accounts;
    tell("accounts");
  });
  source.addEventListener("requests", (event) => {
    const { requests, skipped } = JSON.parse(event.data);
    const known = new Set(live.requests.map((one) => one.id));
    const fresh = requests.filter((one) => !known.has(one.id)).reverse();
    live.requests = [...fresh, ...live.requests].slice(0, REQUESTS_KEPT);
    live.skipped += skipped;
    tell("requests");
  });
}

export function end() {
  source?.close();
  source = null;
  connected(false);
}

function connected(is) {
  live.connected = is;
  tell("connected");
}

const tell = (what) => live.dispatchEvent(new Event(what));

/** Have `update` run at each of some events, and now; return what ends that. */
export function follow(names, update) {
  for (const name of names) live.addEventListener(name, update);
  update();
  return () => names.forEach((name) => live.removeEventListener(name, update));
}
