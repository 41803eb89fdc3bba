// Client keys by their names, where usage and requests know their ids.

import { get } from "./api.js";

const known = new Map();

/** Read the names anew; where there are none, ids are shown. */
export async function learn() {
  const { keys } = await get("/v1/keys").catch(() => ({ keys: [] }));
  for (const key of keys) if (key.name) known.set(key.id, key.name);
}

export const keyName = (id) => known.get(id) ?? id;
