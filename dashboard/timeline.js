// A job's life drawn to scale: a bar for each attempt, and for what it waited before.

import { html } from "./vendor/lit-html/lit-html.js";
import { clock, duration } from "./format.js";
import { live } from "./live.js";
import { time } from "./parts.js";

const ENDS = { attempt_failed: "failed", snoozed: "scheduled", finished: "finished", failed: "failed", cancelled: "cancelled" };
const WORDS = {
  created: "accepted", started: "started", attempt_failed: "attempt failed", snoozed: "snoozed",
  cancel_requested: "asked to stop", due: "due", finished: "finished", failed: "failed", cancelled: "cancelled",
};

/** Spans of a life, in ms: `{from, to, word, tone, open}`; an open one goes on. */
export function spans(job, list, now) {
  const found = [];
  let since = null;
  let waits = true;
  let attempt = 1;
  for (const event of list) {
    const at = Date.parse(event.at);
    if (event.event === "created") since = at;
    else if (event.event === "started") {
      found.push({ from: since ?? at, to: at, word: "waiting", tone: "waits" });
      since = at;
      waits = false;
      attempt = event.attempt;
    } else if (event.event in ENDS) {
      // What sleeps is not said to have started when it has ended; what was cancelled may never have.
      const unseen = event.event === "cancelled" ? "waiting," : "waiting and running,";
      const tone = waits && event.event === "cancelled" ? "waits" : ENDS[event.event];
      found.push({ from: since ?? at, to: at, word: waits ? unseen : `attempt ${event.attempt || attempt}`, tone, ends: WORDS[event.event] });
      since = at;
      waits = true;
    }
  }
  if (job.status === "processing" && since !== null) {
    const word = waits ? "waiting" : `attempt ${job.attempt}`;
    found.push({ from: since, to: Math.max(now ?? since, since), word, tone: waits ? "waits" : "running", open: true });
  }
  // What took no time at all before a start says nothing.
  return found.filter((span) => span.word !== "waiting" || span.to - span.from >= 1 || found.length === 1);
}

export function attempts(job, list) {
  const found = spans(job, list, live.now());
  if (!found.length) return html`<p class="note">Nothing yet.</p>`;
  const from = found[0].from;
  const to = Math.max(found.at(-1).to, from + 1);
  const share = (ms) => ((ms / (to - from)) * 100).toFixed(2);
  const places = (span) => `margin-inline-start:${share(span.from - from)}%;inline-size:max(3px, ${share(span.to - span.from)}%)`;
  return html`<ol class="timeline">${found.map((span) => html`<li>
      <span class="what">${span.word}${span.ends ? ` ${span.ends}`.replace(" attempt failed", " failed") : span.open ? ", ongoing" : ""}</span>
      <span class="track" aria-hidden="true"><i class=${span.tone} .style=${places(span)}></i></span>
      <span class="took">${duration(Math.max(span.to - span.from, 0) / 1000)}</span></li>`)}</ol>
    <p class="scale" aria-hidden="true"><span>${clock(new Date(from).toISOString())}</span><span>${duration((to - from) / 1000)} in all</span></p>`;
}

export const events = (list) => html`<details><summary>All events</summary><div class="scroll" tabindex="0" role="region" aria-label="Events"><table class="plain events">
  <thead><tr><th scope="col">When</th><th scope="col">What</th><th scope="col" class="number">Attempt</th><th scope="col" class="number">Run</th><th scope="col">Worker</th><th scope="col">Detail</th></tr></thead>
  <tbody>${list.map((event) => html`<tr><td>${time(event.at)}</td><td>${WORDS[event.event] ?? event.event}</td><td class="number">${event.attempt || "–"}</td><td class="number">${event.run ?? "–"}</td><td>${event.worker ?? "–"}</td><td>${event.detail}</td></tr>`)}</tbody></table></div></details>`;
