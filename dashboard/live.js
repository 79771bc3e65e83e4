// What the stream says, in this tab: the newest overview and the workers, their age, and the server's clock. This
// browser's own clock is never asked: it may be wrong.

import { append, Stream, tickOf } from "./stream.js";

const STALE_MS = 4000;

let overview = null;
let workers = null;
let ticks = [];
let receivedAt = -Infinity; // by this tab's monotonic clock
let offset = null; // the server's time less this tab's monotonic clock, in ms
const listeners = new Set();
const startedAt = performance.now();

export const live = {
  get overview() {
    return overview;
  },
  get workers() {
    return workers;
  },
  get ticks() {
    return ticks;
  },
  /** Milliseconds since the last news; since the start of this tab where there was none. */
  get ageMs() {
    return performance.now() - Math.max(receivedAt, startedAt);
  },
  get stale() {
    return this.ageMs > STALE_MS;
  },
  get mayAct() {
    return overview?.ui === "act";
  },
  /** The server's time in ms, or null until it is known. */
  now() {
    return offset === null ? null : performance.now() + offset;
  },
  /** A response's Date: good enough until the stream says the time. */
  hint(date) {
    if (offset === null && date) offset = Date.parse(date) + 500 - performance.now();
  },
  onTick(listener) {
    listeners.add(listener);
    return () => listeners.delete(listener);
  },
};

function take(news) {
  overview = news.overview;
  workers = news.workers ?? []; // a shared worker of an older page, still open elsewhere, sends none
  ticks = news.ticks ?? append(ticks, tickOf(overview));
  receivedAt = performance.now() - news.ageMs;
  offset = Date.parse(overview.at) - receivedAt;
  listeners.forEach((listener) => listener());
}

function share() {
  const policy = globalThis.trustedTypes?.createPolicy("hasty", {
    createScriptURL: () => new URL("stream-worker.js", import.meta.url).href,
  });
  const url = policy ? policy.createScriptURL("") : new URL("stream-worker.js", import.meta.url);
  const { port } = new SharedWorker(url, { type: "module", name: "hasty" });
  port.addEventListener("message", ({ data }) => take(data));
  port.start();
  const tell = () => port.postMessage(document.visibilityState === "visible" ? "seen" : "hidden");
  document.addEventListener("visibilitychange", tell);
  addEventListener("pagehide", () => port.postMessage("gone"));
  addEventListener("pageshow", tell);
  tell();
}

function alone() {
  const stream = new Stream(() => take({ ...stream.last, ageMs: 0 }));
  const openOrClose = () => (document.visibilityState === "visible" ? stream.open() : stream.close());
  document.addEventListener("visibilitychange", openOrClose);
  openOrClose();
}

export function start() {
  // Some browsers have no shared workers: there, each tab has a stream while it is seen.
  if ("SharedWorker" in globalThis) share();
  else alone();
}
