// One job: why it is where it is, its attempts drawn to scale, what went in and what came out.

import { html, nothing } from "../vendor/lit-html/lit-html.js";
import { get, post, query, Resource } from "../api.js";
import { ago, duration, jobCommand, json, seconds, shortId } from "../format.js";
import { live } from "../live.js";
import { announce, command, confirm, copy, empty, icon, loaded, readOnly, status, time } from "../parts.js";
import { attempts, events } from "../timeline.js";

export function job({ id, draw }) {
  return new JobPage(id, draw).page();
}

class JobPage {
  constructor(id, draw) {
    this.id = id;
    this.draw = draw;
    this.said = null; // what acting has come to
    this.record = new Resource(() => get(`/v1/jobs/${encodeURIComponent(id)}`), () => this.#loaded());
    this.timeline = new Resource(() => get(`/v1/jobs/${encodeURIComponent(id)}/timeline`), draw);
    this.siblings = new Resource(() => get(query("/v1/jobs", { kind: this.record.data.kind, key: this.record.data.key, limit: 10 })), draw);
    this.record.refresh();
  }

  page() {
    return { tick: () => this.#tick(), view: () => this.#view() };
  }

  #tick() {
    if (document.visibilityState !== "visible") return;
    const ended = this.record.data && this.record.data.status !== "processing";
    this.record.every(ended ? 10000 : 1000);
  }

  #loaded() {
    const { data, error } = this.record;
    if (data && !error) {
      // Its events change when it does; while it runs, only its age.
      if (this.timeline.data === null || this.seen !== this.#mark(data)) this.timeline.refresh({ forget: true });
      if (data.key !== null && (this.siblings.data === null || this.seen !== this.#mark(data))) this.siblings.refresh();
      this.seen = this.#mark(data);
    }
    this.draw();
  }

  #mark(data) {
    return [data.revision, data.status, data.phase, data.attempt, data.started_at].join();
  }

  #view() {
    if (this.record.data === null && this.record.error?.status === 404) {
      return html`<h1>Job</h1>${empty("There is no such job", html`<p>No job has the id <code>${this.id}</code>. Ended jobs are deleted after some time. <a href="#/jobs">Show all jobs</a></p>`)}`;
    }
    return html`<p class="crumbs"><a href=${sessionStorage.getItem("list") ?? "#/jobs"}>Jobs</a></p>
      ${loaded(this.record, (data) => this.#job(data))}`;
  }

  #job(data) {
    return html`<div class="title"><h1>${data.kind} <code class="id">${data.id}</code></h1>${status(data)}</div>
      <p class="why-now">${data.why}</p>
      ${data.progress && data.status === "processing" ? progress(data.progress) : nothing}
      ${this.#actions(data)}${readOnly()}
      <section class="card"><h2>What happened</h2>${loaded(this.timeline, (timeline) => html`${attempts(data, timeline.data)}${events(timeline.data)}`)}</section>
      ${data.error ? failure(data.error) : nothing}
      <div class="columns">
        <section class="card"><h2>Input</h2><pre tabindex="0">${json(data.input)}</pre></section>
        <section class="card"><h2>Output</h2>${data.status === "finished" ? html`<pre tabindex="0">${json(data.output)}</pre>` : html`<p class="note">${data.status === "processing" ? "None yet." : "None: the job did not finish."}</p>`}</section>
      </div>
      <section class="card"><h2>Facts</h2>${facts(data)}${command(jobCommand(data.id))}</section>
      ${data.key !== null ? html`<section class="card"><h2>Jobs with the key <code>${data.key}</code></h2>${loaded(this.siblings, (list) => siblings(list.data, data.id))}</section>` : nothing}`;
  }

  #actions(data) {
    const ended = data.status !== "processing";
    return html`<div class="actions">
      ${live.mayAct && !ended ? html`<button type="button" class="danger" ?disabled=${data.phase === "cancelling"} @click=${() => this.#cancel(data)}>Cancel</button>` : nothing}
      ${live.mayAct && ended ? html`<button type="button" @click=${() => this.#retry(data)}>Retry</button>` : nothing}
      <button type="button" class="quiet" @click=${(event) => copy(jobCommand(data.id), event.currentTarget)}>Copy as curl</button>
      <button type="button" class="quiet" @click=${(event) => copy(data.id, event.currentTarget)}>Copy id</button>
      ${this.said ? html`<span role="status">${this.said}</span>` : nothing}</div>`;
  }

  #cancel(data) {
    confirm({
      title: "Cancel this job?",
      body: "If it has not started, it never starts; if it is running, it is asked to stop. This cannot be undone.",
      action: "Cancel the job",
      run: () => this.#act(async () => {
        await post(`/v1/jobs/${data.id}/cancel`);
        return "It was asked to stop.";
      }),
    });
  }

  #retry(data) {
    return this.#act(async () => {
      const made = await post(`/v1/jobs/${data.id}/retry`, { idempotent: true });
      location.hash = `#/jobs/${made.id}`;
      return `A new job was posted: ${shortId(made.id)}`;
    });
  }

  async #act(run) {
    try {
      this.said = await run();
    } catch (error) {
      this.said = html`${icon("warning")}${error.message}`;
    }
    if (typeof this.said === "string") announce(this.said);
    this.record.refresh({ forget: true });
  }
}

const progress = ({ done, note }) => html`<div class="progress"><progress max="1" .value=${done} aria-label="Progress"></progress><span>${Math.round(done * 100)} %${note ? `: ${note}` : ""}</span></div>`;

const failure = (error) => html`<section class="card bad"><h2>${error.reason === "exception" ? error.type : error.reason.replaceAll("_", " ")}</h2>
  <p class="message">${error.message || error.type}</p>${error.traceback ? html`<pre class="traceback" tabindex="0">${error.traceback}</pre>` : nothing}</section>`;

function facts(data) {
  const fact = (name, value) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`;
  const took = data.started_at && data.ended_at ? seconds(data.started_at, data.ended_at) : null;
  return html`<dl class="facts">
    ${fact("created", html`${time(data.created_at)} <small>${ago(data.created_at)}</small>`)}
    ${fact("started", time(data.started_at))}
    ${fact("ended", html`${time(data.ended_at)}${took === null ? nothing : html` <small>ran ${duration(took)}</small>`}`)}
    ${data.due_at ? fact("due", html`${time(data.due_at)} <small>${ago(data.due_at)}</small>`) : nothing}
    ${fact("attempt", `${data.attempt} of ${data.attempts}`)}
    ${fact("worker", data.worker ?? "–")}
    ${fact("version", data.version ?? "–")}
    ${fact("labels", data.labels.length ? data.labels.map((label) => html`<a class="badge" href=${query("#/jobs", { label })}>${label}</a> `) : "–")}
    ${data.batch ? fact("batch", html`<a href=${query("#/jobs", { batch: data.batch })}>${shortId(data.batch)}</a>`) : nothing}
    ${data.retry_of ? fact("retry of", html`<a href="#/jobs/${data.retry_of}">${shortId(data.retry_of)}</a>`) : nothing}
  </dl>`;
}

const siblings = (list, id) => (list.length < 2
  ? html`<p class="note">This is the only one.</p>`
  : html`<table class="plain"><thead><tr><th scope="col">Job</th><th scope="col">Status</th><th scope="col">Created</th></tr></thead>
    <tbody>${list.map((one) => html`<tr><td>${one.id === id ? html`${shortId(one.id)} <small>this one</small>` : html`<a href="#/jobs/${one.id}">${shortId(one.id)}</a>`}</td><td>${status(one)}</td><td>${time(one.created_at)}</td></tr>`)}</tbody></table>`);
