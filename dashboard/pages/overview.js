// How things are: one sentence, rates, latencies, depth against places, the workers, and the ledger.

import { html, nothing } from "../vendor/lit-html/lit-html.js";
import { chart } from "../charts.js";
import { count, duration, plural } from "../format.js";
import { live } from "../live.js";
import { icon, loaded, quantiles } from "../parts.js";
import { noWorkers, worker } from "./workers.js";

const LONG_S = 60;

export function overview() {
  return { view: () => (live.overview ? page(live.overview, live.workers) : loaded({ data: null, error: null }, nothing)) };
}

function page(now, workers) {
  return html`<h1 class="hidden">Overview</h1>
    ${verdict(now)}
    <dl class="figures">
      ${figure("accepted", `${(now.accepted / now.span_s).toFixed(1)} /s`, "on average over the last minute")}
      ${ended(now)}
      ${figure("in flight", `${count(now.unfinished)}${now.unfinished >= 10000 ? "+" : ""}`, "accepted and not ended")}
      ${figure("running", count(now.running), plural(now.free_slots, "free place"))}
      ${figure("workers", count(now.workers), now.silent_workers ? `${now.silent_workers} silent` : "all are reporting")}
    </dl>
    <div class="columns">${rates(now)}${depth()}</div>
    <div class="columns">${latencies(now)}${ledger(now)}</div>
    <section class="card"><h2>Workers</h2>${workers.length ? html`<ul class="strip">${workers.map((one) => html`<li>${worker(one)}</li>`)}</ul>` : noWorkers()}</section>`;
}

function verdict(now) {
  const well = now.verdict.startsWith("All is well");
  return html`<p class="verdict ${well ? "good" : "bad"}">${icon(well ? "finished" : "warning")}<span>${now.verdict}</span></p>`;
}

const figure = (name, value, note) => html`<div class="card"><dt>${name}</dt><dd>${value}<small>${note}</small></dd></div>`;

// An api-server knows it after some seconds, and not while more jobs wait than are counted; an older one never tells.
const ended = ({ ended_per_s: rate }) => (rate === null || rate === undefined
  ? figure("ended", "–", "not known now")
  : figure("ended", `${rate.toFixed(1)} /s`, "on average over the last minute"));

function rates({ seconds }) {
  const ago = seconds.map((_, n) => n - seconds.length);
  return chart({
    title: "Accepted and ended per second",
    note: `Ended: only jobs accepted in the last ${seconds.length === LONG_S ? "minute" : plural(seconds.length, "second")}.`,
    series: [{ label: "accepted", color: "accent", fill: true }, { label: "ended", color: "good", line: "dashed" }],
    columns: [ago, seconds.map(([accepted]) => accepted), seconds.map(([, ended]) => ended)],
    format: (value) => `−${-value} s`,
    heads: ["seconds ago", "accepted", "ended"],
    rows: () => seconds.map(([accepted, ended], n) => [seconds.length - n, accepted, ended]).reverse(),
  });
}

function depth() {
  const { ticks } = live;
  const newest = ticks.at(-1)?.at ?? 0;
  const ago = ticks.map((tick) => Math.round((tick.at - newest) / 1000));
  return chart({
    title: "Depth against places",
    note: ticks.length < LONG_S ? "Since this page was opened." : nothing,
    series: [{ label: "in flight", color: "warn", fill: true }, { label: "running", color: "accent" }, { label: "places", color: "muted", line: "dotted" }],
    columns: [ago, ticks.map((tick) => tick.unfinished), ticks.map((tick) => tick.running), ticks.map((tick) => tick.places)],
    format: (value) => (value ? `−${-value < 120 ? `${-value} s` : duration(-value)}` : "now"),
    heads: ["seconds ago", "in flight", "running", "places"],
    rows: () => ticks.map((tick, n) => [-ago[n], count(tick.unfinished), count(tick.running), count(tick.places)]).reverse(),
  });
}

const latencies = (now) => html`<section class="card"><h2>How long jobs take</h2>
  <table class="plain"><thead><tr><th scope="col">of the last minute's jobs</th><th scope="col" class="number">p50</th><th scope="col" class="number">p95</th><th scope="col" class="number">p99</th></tr></thead>
  <tbody>${quantiles("to their start", now.to_start_s)}${quantiles("to their end", now.to_end_s)}</tbody></table>
  <p class="note">Measured from acceptance: half, 95 % and 99 % of the jobs took at most this long. The start is known only for handlers' jobs.</p></section>`;

function ledger(now) {
  const right = now.finished + now.failed + now.cancelled + now.processing;
  const part = (name, value, tone = "") => html`<div class=${tone}><dt>${name}</dt><dd>${count(value)}</dd></div>`;
  return html`<section class="card"><h2>Ledger of the last ${now.span_s < 59 ? duration(now.span_s) : "minute"}</h2>
    <dl class="ledger">${part("accepted", now.accepted)}<span aria-hidden="true">=</span>${part("finished", now.finished, "good")}<span aria-hidden="true">+</span>${part("failed", now.failed, now.failed ? "bad" : "")}<span aria-hidden="true">+</span>${part("cancelled", now.cancelled)}<span aria-hidden="true">+</span>${part("in flight", now.processing)}</dl>
    <p class="note">${right === now.accepted ? "It adds up: no job is missing." : `It does not add up: ${count(right)} are accounted for.`}${now.sampled ? " More were accepted than are counted here; these are the newest." : ""}</p></section>`;
}
