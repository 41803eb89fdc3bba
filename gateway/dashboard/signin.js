// The page of who is not signed in.

import { post } from "./api.js";
import { during, field, h, text } from "./dom.js";

export function signIn(session, then) {
  const ways = session.ways.filter((way) => way !== "code");
  const problem = h("p", { class: "problem", role: "alert" });
  const command = h(
    "p",
    { class: "muted" },
    "On the gateway's machine ",
    h("code", {}, "antigravity dashboard --config FILE"),
    " prints an address that signs a browser in, once.",
  );
  if (!ways.length) {
    return h(
      "main",
      { id: "main", class: "outside" },
      h("section", { class: "card" }, h("h1", {}, "Sign in"), command, h(
        "p",
        { class: "muted" },
        "To sign in with a password, write the hash that ",
        h("code", {}, "antigravity password"),
        " makes into the configuration as ",
        h("code", {}, "admin.password"),
        ", and reload.",
      )),
    );
  }
  const name = h("input", { type: "text", name: "username", autocomplete: "username", value: "operator", hidden: true, "aria-hidden": "true", tabindex: "-1" });
  const secret = h("input", { type: "password", name: "secret", autocomplete: "current-password", required: true, autofocus: true, maxlength: 1024 });
  const send = h("button", { type: "submit", class: "primary wide" }, "Sign in");
  const form = h("form", {}, name, field(ways.includes("password") ? "Password" : "Token", secret, ways.length > 1 ? "The password, or admin.token." : undefined), send, problem);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    during(send, async () => {
      text(problem, "");
      try {
        await signedIn(ways, secret.value);
      } catch (error) {
        text(problem, error.message);
        secret.select();
        return;
      }
      await then();
    });
  });
  requestAnimationFrame(() => secret.focus());
  return h("main", { id: "main", class: "outside" }, h("section", { class: "card" }, h("h1", {}, "Antigravity Gateway"), form, command));
}

/** Try each way that there is. */
async function signedIn(ways, secret) {
  let last;
  for (const way of ways) {
    try {
      return await post("/v1/session", { [way]: secret });
    } catch (error) {
      last = error;
      if (error.code !== 401) break;
    }
  }
  throw last;
}
