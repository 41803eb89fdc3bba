// The frame: who is signed in, which page is shown, and whether the gateway answers.

import { get, post, remove } from "./api.js";
import { during, h, text, toast } from "./dom.js";
import { span } from "./format.js";
import * as feed from "./live.js";
import { signIn } from "./signin.js";
import * as accounts from "./accounts.js";
import * as clients from "./clients.js";
import * as keys from "./keys.js";
import * as models from "./models.js";
import * as overview from "./overview.js";
import * as playground from "./playground.js";
import * as requests from "./requests.js";

const PAGES = { overview, accounts, keys, requests, models, playground, clients };
const shell = document.getElementById("shell");
let leave = null;
let frame = null;

async function start() {
  const code = new URLSearchParams(location.hash.slice(1)).get("code");
  if (code) {
    // It is good once: nobody is to find it in the history.
    history.replaceState(null, "", location.pathname);
    await post("/v1/session", { code }).catch((error) => toast(error.message, "bad"));
  }
  await look();
}

/** Show what is to be shown to who this is. */
async function look() {
  let session;
  try {
    session = await get("/v1/session");
  } catch (error) {
    frame || shell.replaceChildren(h("p", { class: "empty" }, `${error.message} Trying again.`));
    setTimeout(look, 3000);
    return;
  }
  if (session.signed_in) enter(session);
  else outside(session);
}

function outside(session) {
  feed.end();
  close();
  frame = null;
  document.title = "Sign in – Antigravity Gateway";
  shell.replaceChildren(signIn(session, look));
}

function enter(session) {
  feed.begin();
  if (frame) return;
  frame = build(session);
  shell.replaceChildren(frame.element);
  feed.follow(["state", "connected"], frame.update);
  show();
}

function build(session) {
  const links = Object.entries(PAGES).map(([name, page]) => [name, h("a", { href: `#/${name}` }, page.title)]);
  const dot = h("span", { class: "dot", "aria-hidden": "true" });
  const state = h("span", {});
  const version = h("span", { class: "version" });
  const banner = h("p", { class: "banner", role: "alert", hidden: true });
  const main = h("main", { id: "main", tabindex: "-1" });
  const out = h("button", { type: "button", class: "small" }, "Sign out");
  out.addEventListener("click", () => during(out, () => remove("/v1/session").then(look)));
  const element = h(
    "div",
    { class: "frame" },
    h(
      "header",
      { class: "top" },
      h("a", { class: "brand", href: "#/overview" }, h("img", { src: "icon.svg", alt: "", width: 26, height: 26 }), "Antigravity"),
      h("nav", { "aria-label": "Pages" }, h("ul", {}, links.map(([, link]) => h("li", {}, link)))),
      h("div", { class: "who" }, h("p", { class: "status" }, dot, state, version), out),
    ),
    h("div", { class: "body" }, banner, main),
  );
  const update = () => {
    const now = feed.live.state;
    const good = feed.live.connected && now?.ready;
    dot.className = `dot ${good ? "good" : feed.live.connected ? "warn" : "bad"}`;
    text(state, !feed.live.connected ? "connecting…" : now?.ready ? "ready" : "not ready");
    text(version, now?.version ?? "");
    const told = [
      !feed.live.connected && now && "The gateway does not answer just now; what is shown is from before.",
      now && !now.ready && `Not ready: ${now.reason}.`,
      now?.degraded && "The state directory cannot be written: what changes now is lost at a restart.",
      now?.reload_failure && `The last reload of the configuration failed: ${now.reload_failure}`,
    ].filter(Boolean);
    banner.hidden = !told.length;
    text(banner, told.join(" "));
  };
  return { element, main, links, update, session };
}

function close() {
  leave?.();
  leave = null;
}

function show() {
  if (!frame) return;
  const name = location.hash.slice(2).split("/")[0];
  const page = PAGES[name] ?? overview;
  close();
  for (const [one, link] of frame.links) {
    if (PAGES[one] === page) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${page.title} – Antigravity Gateway`;
  frame.main.replaceChildren(h("h1", {}, page.title));
  leave = page.render(frame.main) ?? null;
  frame.links.find(([one]) => PAGES[one] === page)?.[1].scrollIntoView?.({ block: "nearest", inline: "center" });
}

window.addEventListener("hashchange", () => {
  if (location.hash.startsWith("#code=")) start();
  else {
    show();
    frame?.main.focus({ preventScroll: true });
    window.scrollTo(0, 0);
  }
});
window.addEventListener("signed-out", look);
window.addEventListener("look-again", look);

// Cool-downs count on by themselves.
setInterval(() => {
  for (const one of document.querySelectorAll("[data-until]")) text(one, span((Date.parse(one.dataset.until) - Date.now()) / 1000));
}, 1000);

start();
