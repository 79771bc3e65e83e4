// The list of jobs: one search box, filters in the address, new rows behind a pill, and acting on many at once.

import { html, nothing } from "../vendor/lit-html/lit-html.js";
import { repeat } from "../vendor/lit-html/directives/repeat.js";
import { get, post, query, Resource } from "../api.js";
import { ago, count, plural, shortId, submitCommand } from "../format.js";
import { live } from "../live.js";
import { announce, command, confirm, empty, icon, loaded, readOnly, status, time } from "../parts.js";
import { lookFor, partOfId, wholeId } from "../short-ids.js";

const PAGE = 50;
const FOLLOWED = 10; // rows below the newest page that are asked for one by one at each look
const AT_ONCE = 6;
const NAMED = 10; // jobs that may be meant by a part of an id
const AGES = { "5m": [300, "5 minutes"], "1h": [3600, "hour"], "1d": [86400, "day"], "7d": [604800, "7 days"] };
const STATUSES = ["processing", "finished", "failed", "cancelled"];

export function jobs({ draw }) {
  return new Jobs(draw).page();
}

class Jobs {
  constructor(draw) {
    this.draw = draw;
    this.params = new URLSearchParams();
    this.rows = []; // what is shown, newest first
    this.fresh = []; // newer ones, behind the pill
    this.next = null;
    this.searchedTo = null;
    this.chosen = new Set();
    this.doing = null; // what bulk acting has come to
    this.looking = null; // for a part of an id: what was typed, and what `lookFor` has come to, or an error
    this.shown = false; // whether `rows` belong to these filters
    this.newest = new Resource(() => this.#first(), () => this.#merge());
    this.older = new Resource(() => get(query("/v1/jobs", { ...this.#filters(), limit: PAGE, after: this.next })), () => this.#append());
    this.kinds = new Resource(() => get("/v1/kinds"), draw);
    this.kinds.refresh();
  }

  page() {
    return {
      show: (params) => this.#show(params),
      tick: () => this.#tick(),
      view: () => this.#view(),
    };
  }

  // -- what is shown ------------------------------------------------------------------------------------------------

  #show(params) {
    sessionStorage.setItem("list", location.hash);
    if (this.shown && String(params) === String(this.params)) return;
    this.params = params;
    this.looking = null;
    this.#again();
  }

  #again() {
    this.shown = false;
    this.rows = [];
    this.fresh = [];
    this.next = null;
    this.chosen.clear();
    this.newest.data = null;
    this.newest.refresh({ forget: true });
  }

  #filters() {
    const given = Object.fromEntries(["kind", "status", "key", "label", "batch"].map((name) => [name, this.params.get(name)]));
    const age = AGES[this.params.get("age")];
    // Before the stream has said the time, this browser's clock will do: it widens or narrows a list, no more.
    return { ...given, since: age ? new Date((live.now() ?? Date.now()) - age[0] * 1000).toISOString() : null };
  }

  #first() {
    return get(query("/v1/jobs", { ...this.#filters(), limit: PAGE }));
  }

  #merge() {
    const page = this.newest.data;
    if (page && this.newest.error === null) {
      if (!this.shown) {
        this.rows = page.data;
        this.next = page.next;
        this.searchedTo = page.searched_back_to;
        this.shown = true;
      } else {
        this.#update(page.data);
      }
    }
    this.draw();
  }

  /** Rows that are shown change in place; new ones wait behind the pill, so that nothing moves under a hand. */
  #update(data) {
    const known = new Map(this.rows.map((job, n) => [job.id, n]));
    this.fresh = data.filter((job) => !known.has(job.id) && (!this.rows.length || job.created_at >= this.rows[0].created_at));
    data.forEach((job) => known.has(job.id) && (this.rows[known.get(job.id)] = job));
    if (!this.rows.length && this.fresh.length) this.#take();
    const seen = new Set(data.map((job) => job.id));
    const open = this.rows.filter((job) => job.status === "processing" && !seen.has(job.id)).slice(0, FOLLOWED);
    open.forEach(async (job) => {
      const now = await get(`/v1/jobs/${job.id}`).catch(() => null);
      const at = this.rows.findIndex((one) => one.id === job.id);
      if (now && at >= 0) this.rows[at] = now;
      this.draw();
    });
  }

  /** Show the new rows. More than a page of them, and the list begins anew: there may be a gap below them. */
  #take() {
    if (this.fresh.length >= PAGE) return this.#again();
    this.rows = [...this.fresh, ...this.rows];
    this.fresh = [];
    this.draw();
  }

  #append() {
    if (this.older.error === null && this.older.data) {
      const known = new Set(this.rows.map((job) => job.id));
      this.rows = [...this.rows, ...this.older.data.data.filter((job) => !known.has(job.id))];
      this.next = this.older.data.next;
      this.searchedTo = this.older.data.searched_back_to;
    }
    this.draw();
  }

  #tick() {
    if (document.visibilityState !== "visible") return;
    // A list whose filters match few of many jobs costs more to make.
    this.newest.every([...this.params.keys()].length ? 3000 : 1500);
    this.kinds.every(30000);
  }

  // -- filters ------------------------------------------------------------------------------------------------------

  #set(name, value) {
    // As the address is: one event may change several filters before the page hears of it.
    const params = new URLSearchParams(location.hash.split("?")[1]);
    if (value) params.set(name, value);
    else params.delete(name);
    location.hash = String(params) ? `#/jobs?${params}` : "#/jobs";
  }

  #search(event) {
    event.preventDefault();
    const text = event.target.elements.search.value.trim();
    const [id, part] = [wholeId(text), partOfId(text)];
    this.looking = null;
    if (id) location.hash = `#/jobs/${id}`;
    else if (part) this.#look(text, part);
    else this.#set("key", text);
  }

  /** Show the jobs of a key, or where there are none, the one whose id has this part. */
  async #look(text, part) {
    const search = { text: text.replace(/^…/, "") };
    this.looking = search;
    this.draw();
    try {
      const { data } = await get(query("/v1/jobs", { ...this.#filters(), key: search.text, limit: 1 }));
      if (this.looking !== search) return;
      if (data.length) {
        this.looking = null;
        return void this.#set("key", search.text);
      }
      for await (const come of lookFor(part)) {
        if (this.looking !== search) return;
        Object.assign(search, come);
        this.draw();
      }
      if (search.jobs.length === 1) return void (location.hash = `#/jobs/${search.jobs[0].id}`);
    } catch (error) {
      search.error = error;
    }
    if (this.looking === search) announce(lookedFor(search));
    this.draw();
  }

  #found() {
    const search = this.looking;
    if (!search) return nothing;
    const jobs = search.isDone ? search.jobs : [];
    return html`<div class="notice ${search.error ? "bad" : ""}"><div>
      <p>${lookedFor(search)}${search.isDone && search.oldest && !search.isAll ? html`, back to ${time(search.oldest.created_at)}` : nothing}.
        ${search.isDone || search.error ? html`<button type="button" class="quiet" @click=${() => { this.looking = null; this.#set("key", search.text); }}>Search for it as a key</button>` : nothing}</p>
      ${jobs.length > 1 ? html`<ul>${jobs.slice(0, NAMED).map((job) => html`<li><a href=${`#/jobs/${job.id}`}><code>${job.id}</code></a> ${job.kind}, ${job.phase ?? job.status}, ${ago(job.created_at)}</li>`)}</ul>` : nothing}
    </div></div>`;
  }

  #choice(name, label, options) {
    const now = this.params.get(name) ?? "";
    // A kind in the address that is not known (any more) is shown all the same.
    const all = !now || options.some(([value]) => value === now) ? options : [...options, [now, now]];
    return html`<label>${label}<select name=${name} @change=${(event) => this.#set(name, event.target.value)}>
      <option value="" ?selected=${!now}>any</option>${all.map(([value, text]) => html`<option value=${value} .selected=${value === now}>${text}</option>`)}</select></label>`;
  }

  #form() {
    return html`<form class="filters" role="search" @submit=${(event) => this.#search(event)}>
      <label class="search">Id or key<input id="search" name="search" type="search" autocomplete="off" spellcheck="false" placeholder="press / to search" .value=${this.params.get("key") ?? ""}></label>
      ${this.#choice("kind", "Kind", (this.kinds.data?.data ?? []).map((kind) => [kind.name, kind.name]))}
      ${this.#choice("status", "Status", STATUSES.map((name) => [name, name]))}
      <label>Label<input name="label" autocomplete="off" spellcheck="false" .value=${this.params.get("label") ?? ""} @change=${(event) => this.#set("label", event.target.value.trim())}></label>
      ${this.#choice("age", "Created in the last", Object.entries(AGES).map(([value, [, text]]) => [value, text]))}
      <button>Search</button>
      ${[...this.params.keys()].length ? html`<a class="button quiet" href="#/jobs">Clear</a>` : nothing}
    </form>
    ${this.params.get("batch") ? html`<p class="note">In batch <code>${this.params.get("batch")}</code> <button type="button" class="quiet" @click=${() => this.#set("batch", "")}>All jobs</button></p>` : nothing}`;
  }

  // -- acting on many -----------------------------------------------------------------------------------------------

  #choose(id, on) {
    if (on) this.chosen.add(id);
    else this.chosen.delete(id);
    this.draw();
  }

  #chooseAll(on) {
    this.chosen = new Set(on ? this.rows.map((job) => job.id) : []);
    this.draw();
  }

  #bar() {
    if (this.doing) return html`<div class="bar" role="status">${this.doing}<button type="button" class="quiet" @click=${() => { this.doing = null; this.draw(); }}>Close</button></div>`;
    if (!this.chosen.size || !live.mayAct) return nothing;
    const chosen = this.rows.filter((job) => this.chosen.has(job.id));
    const open = chosen.filter((job) => job.status === "processing");
    const ended = chosen.filter((job) => job.status !== "processing");
    return html`<div class="bar"><span>${plural(chosen.length, "job")} selected</span>
      <button type="button" ?disabled=${!open.length} @click=${() => this.#ask("cancel", "Cancel", open)}>Cancel ${count(open.length)}</button>
      <button type="button" ?disabled=${!ended.length} @click=${() => this.#ask("retry", "Retry", ended)}>Retry ${count(ended.length)}</button>
      ${chosen.length < this.rows.length ? html`<button type="button" class="quiet" @click=${() => this.#chooseAll(true)}>Select all</button>` : nothing}
      <button type="button" class="quiet" @click=${() => this.#chooseAll(false)}>Select none</button></div>`;
  }

  #ask(action, title, of) {
    const body = action === "cancel"
      ? "Jobs that have not started never start; running ones are asked to stop. This cannot be undone."
      : "Each becomes a new job with the same input.";
    const what = `${title} ${plural(of.length, "job")}`;
    confirm({ title: `${what}?`, body, action: what, typed: of.length, run: () => this.#run(action, of) });
  }

  async #run(action, of) {
    const done = { cancel: "asked to stop", retry: "posted again" }[action];
    const refused = new Map();
    let well = 0;
    const waiting = [...of];
    const work = async () => {
      for (let job = waiting.shift(); job; job = waiting.shift()) {
        try {
          await post(`/v1/jobs/${job.id}/${action}`, { idempotent: action === "retry" });
          well += 1;
          this.chosen.delete(job.id);
        } catch (error) {
          refused.set(error.message, (refused.get(error.message) ?? 0) + 1);
        }
        this.doing = `${count(well)} of ${plural(of.length, "job")} ${done}`;
        this.draw();
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
    const not = [...refused].map(([why, times]) => `; ${count(times)} refused: ${why}`).join("");
    this.doing = `${count(well)} of ${plural(of.length, "job")} ${done}${not}`;
    announce(this.doing);
    this.newest.refresh({ forget: true });
  }

  // -- the table ----------------------------------------------------------------------------------------------------

  #view() {
    return html`<div class="pillbox">${this.fresh.length ? html`<button type="button" class="pill" @click=${() => this.#take()}>${this.fresh.length >= PAGE ? `${PAGE} or more new jobs` : plural(this.fresh.length, "new job")}: show</button>` : nothing}</div>
      <h1>Jobs</h1>${this.#form()}${this.#found()}${readOnly()}
      ${loaded(this.newest, () => (this.rows.length ? this.#table() : this.#nothing()))}
      ${this.rows.length || this.next ? this.#more() : nothing}${this.#bar()}`;
  }

  #table() {
    const all = this.chosen.size > 0 && this.rows.every((job) => this.chosen.has(job.id));
    return html`<table class="jobs"><caption class="hidden">Jobs, newest first</caption><thead><tr>
      ${live.mayAct ? html`<th scope="col" class="choice"><input type="checkbox" aria-label="Select all shown" .checked=${all} @change=${(event) => this.#chooseAll(event.target.checked)}></th>` : nothing}
      <th scope="col">Job</th><th scope="col">Kind</th><th scope="col">Status</th><th scope="col">Key</th><th scope="col">Attempt</th><th scope="col">Created</th><th scope="col">Why</th></tr></thead>
      <tbody>${repeat(this.rows, (job) => job.id, (job) => this.#row(job))}</tbody></table>`;
  }

  #row(job) {
    return html`<tr data-href=${`#/jobs/${job.id}`}>
      ${live.mayAct ? html`<td class="choice"><input type="checkbox" aria-label=${`Select ${job.id}`} .checked=${this.chosen.has(job.id)} @change=${(event) => this.#choose(job.id, event.target.checked)}></td>` : nothing}
      <td data-label="Job"><a href=${`#/jobs/${job.id}`} title=${job.id}>${shortId(job.id)}</a></td>
      <td data-label="Kind">${job.kind}</td>
      <td data-label="Status">${status(job)}</td>
      <td data-label="Key" class="key">${job.key ?? "–"}</td>
      <td data-label="Attempt" class="number">${job.attempt} of ${job.attempts}</td>
      <td data-label="Created">${time(job.created_at)}<small>${ago(job.created_at)}</small></td>
      <td data-label="Why" class="why">${job.why}</td></tr>`;
  }

  #more() {
    const searched = this.searchedTo ? html`<p class="note">Searched back to ${time(this.searchedTo)}; there may be older ones.</p>` : nothing;
    return html`<div class="more">${searched}${this.next
      ? html`<button type="button" ?disabled=${this.older.busy} @click=${() => { this.older.refresh(); this.draw(); }}>${this.older.busy ? "Loading" : "Older jobs"}</button>`
      : html`<p class="note">${plural(this.rows.length, "job")}; there are no older ones.</p>`}
      ${this.older.error ? html`<p class="notice bad" role="alert">${icon("warning")}${this.older.error.message}</p>` : nothing}</div>`;
  }

  #nothing() {
    if (this.searchedTo) return empty("None found yet", html`<p>None of the newest jobs matches. Older ones can be searched.</p>`);
    if ([...this.params.keys()].length) return empty("No matching jobs", html`<p>No stored job matches all of these filters. <a href="#/jobs">Show all jobs</a></p>`);
    const kinds = this.kinds.data?.data ?? [];
    const kind = kinds.find((one) => one.workers.length && !("object_id" in (one.input_schema.properties ?? {}))) ?? kinds[0];
    return empty("No jobs yet", html`<p>Post the first one:</p>${kind ? command(submitCommand(kind)) : nothing}<p>It appears here automatically.</p>`);
  }
}

/** What looking for a part of an id has come to, without a full stop. */
function lookedFor({ text, part, jobs, looked, isAll, isDone, error }) {
  if (error) return `Looking for ${text} failed: ${error.message}`;
  if (!isDone) return `Looking for ${text}${looked ? ` among the newest jobs: ${count(looked)} so far` : ""}`;
  const many = jobs.length > NAMED ? `; these are the newest ${NAMED}` : "";
  if (jobs.length) return `${part} may be ${plural(jobs.length, "job")}${many}`;
  return `No job has the key ${text}, and of ${isAll ? `all ${plural(looked, "job")}` : `the newest ${count(looked)} jobs`} none has an id with ${part} at its end or beginning`;
}
