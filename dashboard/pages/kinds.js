// What can be asked for: each kind with its policy, its schema, who serves it, and a command that posts a job.

import { html, nothing } from "../vendor/lit-html/lit-html.js";
import { get, Resource } from "../api.js";
import { count, duration, json, plural, submitCommand } from "../format.js";
import { command, icon, loaded, starts } from "../parts.js";

export function kinds({ draw }) {
  const list = new Resource(() => get("/v1/kinds"), draw);
  list.refresh();
  return {
    tick: () => list.every(3000),
    view: () => html`<h1>Kinds</h1><p class="note">The kinds of jobs that job-servers have announced.</p>
      ${loaded(list, ({ data }) => html`<ul class="kinds">${data.map(kind)}</ul>
        ${data.length === 1 ? html`<div class="empty"><h2>Add a handler of your own</h2><p>Write a function in tasks.py, and start Hasty with it:</p>${starts()}</div>` : nothing}`)}`,
  };
}

function kind(one) {
  const served = one.workers.length;
  // What job-servers do without handlers, announced by none.
  const builtIn = one.versions.length === 0 ? "built in, " : "";
  return html`<li class="card">
    <h2><a href="#/jobs?kind=${one.name}">${one.name}</a> <span class="status ${served ? "running" : "failed"}">${icon(served ? "running" : "warning")}${builtIn}${served ? `${plural(served, "worker")}, ${plural(one.free_slots, "free place")}` : "no worker serves it"}</span></h2>
    ${one.description ? html`<p>${one.description}</p>` : nothing}
    <dl class="facts">
      ${fact("runs as", one.way)}
      ${fact("attempts", one.attempts === 1 ? "1" : `${one.attempts}, ${duration(one.first_s)} to ${duration(one.most_s)} apart`)}
      ${fact("timeout", duration(one.timeout_s))}
      ${fact("key", one.key ?? "none")}
      ${fact("cooldown", one.cooldown_s ? duration(one.cooldown_s) : "none")}
      ${fact(one.versions.length > 1 ? "versions" : "version", one.versions.join(", ") || one.version || "–")}
      ${one.at_most_once ? fact("runs", "at most once") : nothing}
    </dl>
    ${command(submitCommand(one))}
    <details><summary>Schemas</summary><h3>Input</h3><pre tabindex="0">${json(one.input_schema)}</pre><h3>Output</h3><pre tabindex="0">${json(one.output_schema)}</pre></details>
  </li>`;
}

const fact = (name, value) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`;
