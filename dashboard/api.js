// Requests to /v1, and what goes wrong with them in words.

import { live } from "./live.js";

const TIMEOUT_MS = 15000;

export class Problem extends Error {
  constructor(name, detail, status) {
    super(detail);
    this.name = name;
    this.status = status;
  }
}

async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS), ...options });
  } catch (error) {
    throw new Problem("unreachable", error.name === "TimeoutError" ? "the server does not answer" : "the server cannot be reached", 0);
  }
  live.hint(response.headers.get("date"));
  const body = await response.json().catch(() => ({}));
  if (!response.ok) {
    const name = (body.type ?? "").replace("urn:hasty:problem:", "") || `status ${response.status}`;
    throw new Problem(name, body.detail ?? body.message ?? "the answer cannot be read", response.status);
  }
  return body;
}

export const get = (path) => ask(path);

/** Change something. The content type is one that no form has; the key makes a repetition harmless. */
export function post(path, { idempotent = false } = {}) {
  const headers = { "content-type": "application/json" };
  if (idempotent) headers["idempotency-key"] = randomKey();
  return ask(path, { method: "POST", headers });
}

// crypto.randomUUID exists with TLS or on this machine only.
const randomKey = () => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

export function query(path, values) {
  const given = Object.entries(values).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return given.length ? `${path}?${new URLSearchParams(given)}` : path;
}

/** Something that is asked for again and again: the last answer stays while a newer one is under way or fails. */
export class Resource {
  constructor(load, onChange) {
    this.load = load;
    this.onChange = onChange;
    this.data = null;
    this.error = null;
    this.busy = false;
    this.askedAt = -Infinity;
    this.answeredAt = null; // when what `data` has was answered
    this.turn = 0;
  }

  /** Ask, unless an answer is under way; `forget` drops what was asked before. */
  async refresh({ forget = false } = {}) {
    if (this.busy && !forget) return;
    const turn = ++this.turn;
    this.busy = true;
    this.askedAt = performance.now();
    try {
      const data = await this.load();
      if (turn !== this.turn) return;
      this.data = data;
      this.error = null;
      this.answeredAt = performance.now();
    } catch (error) {
      if (turn !== this.turn) return;
      this.error = error;
    } finally {
      if (turn === this.turn) this.busy = false;
    }
    this.onChange();
  }

  /** Seconds since the last answer. */
  get ageS() {
    return Math.floor((performance.now() - this.answeredAt) / 1000);
  }

  /** Ask again when the last time is so long ago. */
  every(ms) {
    if (performance.now() - this.askedAt >= ms) this.refresh();
  }
}
