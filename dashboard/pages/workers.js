// Who works: a cell for each place, and when a silent worker's jobs begin elsewhere.

import { html, nothing } from "../vendor/lit-html/lit-html.js";
import { get, Resource } from "../api.js";
import { count, duration, plural } from "../format.js";
import { empty, icon, loaded, starts } from "../parts.js";

const CELLS = 200;
const NAMED = 1000; // so many jobs that sleep are counted

export function workers({ draw }) {
  const list = new Resource(() => get("/v1/workers"), draw);
  list.refresh();
  return {
    tick: () => list.every(1000),
    view: () => html`<h1>Workers</h1><p class="note">Job-servers heard from in the last minute.</p>
      ${loaded(list, ({ data }) => (data.length ? html`<ul class="workers">${data.map((one) => html`<li class="card">${worker(one)}${served(one)}</li>`)}</ul>` : noWorkers()))}`,
  };
}

export const noWorkers = () => empty("No workers", html`<p>Accepted jobs are kept, and wait. Start a job-server:</p>${starts()}`);

export function worker(one) {
  return html`<div class="worker ${one.silent ? "silent" : ""}">
    <h3>${one.worker}</h3>
    <p>${one.silent ? silence(one) : html`<span class="status running">${icon("running")}${does(one)}</span>, heard from ${one.last_sign_s < 2 ? "just now" : `${duration(one.last_sign_s)} ago`}`}</p>
    ${places(one)}</div>`;
}

/** What it does now; jobs that sleep beside handlers take none of their places. */
function does({ running, sleeping = 0 }) {
  const parts = [running ? `runs ${count(running)}` : "", sleeping ? `${count(sleeping)}${sleeping < NAMED ? "" : " or more"} asleep` : ""];
  return parts.filter(Boolean).join(", ") || "idle";
}

function silence(one) {
  const left = one.elsewhere_in_s ?? 0;
  const then = !one.held ? "it held no jobs" : left > 0 ? `its ${plural(one.held, "job")} begin${one.held === 1 ? "s" : ""} elsewhere in ${duration(Math.ceil(left))}` : `its ${plural(one.held, "job")} begin${one.held === 1 ? "s" : ""} elsewhere now`;
  return html`<span class="status failed">${icon("warning")}silent for ${duration(Math.floor(one.last_sign_s))}</span>: ${then}`;
}

function places(one) {
  const all = one.running + one.free_places;
  if (!all) return html`<p class="note">no places</p>`;
  const each = Math.ceil(all / CELLS);
  const taken = Math.ceil(one.running / each);
  const words = `${count(one.running)} of ${plural(all, "place")} taken`;
  return html`<div class="cells" role="img" aria-label=${words}>${Array.from({ length: Math.ceil(all / each) }, (_, n) => html`<i class=${n < taken ? "taken" : ""}></i>`)}</div>
    <p class="note">${words}${each > 1 ? `; each cell is ${each} places` : nothing}</p>`;
}

const served = (one) => (Object.keys(one.kinds).length ? kinds(one) : html`<p class="note">It serves no kinds.</p>`);

const kinds = (one) => html`<table class="plain"><thead><tr><th scope="col">kind</th><th scope="col">version</th><th scope="col" class="number">free places</th></tr></thead>
  <tbody>${Object.entries(one.kinds).map(([kind, version]) => html`<tr><th scope="row"><a href="#/jobs?kind=${kind}">${kind}</a></th><td>${version || "built in"}</td><td class="number">${count(one.free_slots[kind] ?? 0)}</td></tr>`)}</tbody></table>`;
