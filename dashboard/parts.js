// What several pages show: statuses, states of loading, dialogs, commands to copy.

import { html, nothing, svg } from "./vendor/lit-html/lit-html.js";
import { live } from "./live.js";
import { clock, duration } from "./format.js";

const ICONS = {
  finished: "M3 8.5 6.5 12 13 4.5",
  failed: "M4 4 12 12M12 4 4 12",
  cancelled: "M3 8h10",
  running: "M5 3.5v9l7-4.5z",
  queued: "M4 4.5h8M4 8h8M4 11.5h8",
  scheduled: "M8 2.5a5.5 5.5 0 1 0 .01 0M8 5v3.2l2.2 1.4",
  retrying: "M12.5 8a4.5 4.5 0 1 1-1.5-3.4M11.5 2v3h-3",
  cancelling: "M3 8h10",
  processing: "M4 4.5h8M4 8h8M4 11.5h8",
  warning: "M8 2.5 14 13.5H2zM8 6.5v3.5M8 11.8v.2",
};

export const icon = (name) => html`<svg class="icon" viewBox="0 0 16 16" aria-hidden="true">${svg`<path d=${ICONS[name] ?? ICONS.processing}></path>`}</svg>`;

/** A job's status; while it is processing, what it does just now. */
export function status(job) {
  const word = job.status === "processing" ? (job.phase ?? "processing") : job.status;
  return html`<span class="status ${word}">${icon(word)}${word}</span>`;
}

export const time = (text) => (text ? html`<time datetime=${text} title=${text}>${clock(text)}</time>` : "–");

/** What stands in the place of something that is not there: being loaded, failed, or the thing itself. */
export function loaded(resource, show) {
  if (resource.data !== null) {
    return html`${resource.error ? trouble(resource) : nothing}<div class=${resource.error ? "old" : nothing}>${show(resource.data)}</div>`;
  }
  if (resource.error) return trouble(resource);
  return html`<div class="loading" role="status"><span class="bone"></span><span class="bone"></span><span class="bone"></span><span class="hidden">Loading</span></div>`;
}

function trouble(resource) {
  const { error } = resource;
  // The age is beside what is announced: it changes every second.
  return html`<div class="notice bad">${icon("warning")}
    <p><span role="alert"><strong>${error.name === "unreachable" ? "No answer" : error.name}</strong>: ${error.message}.</span>
    ${resource.data === null ? "Retrying automatically." : `What is shown is ${duration(resource.ageS)} old.`}</p>
    <button type="button" @click=${() => resource.refresh({ forget: true })}>Try again</button></div>`;
}

export const empty = (title, body) => html`<div class="empty"><h2>${title}</h2>${body}</div>`;

/** A command with a button that copies it. */
export const command = (text) => html`<div class="command"><pre tabindex="0"><code>${text}</code></pre>
  <button type="button" class="quiet" @click=${(event) => copy(text, event.currentTarget)}>Copy</button></div>`;

/** How a job-server with handlers is started, from the sources and in containers. */
export const starts = () => html`${command("make up WORK=tasks.py")}<p>Or in containers, with the handlers in <code>work/tasks.py</code>:</p>${command("HASTY_WORK=tasks.py docker compose up -d")}`;

export async function copy(text, button) {
  const before = button.dataset.label ?? button.textContent;
  button.dataset.label = before;
  let said = "Copied";
  try {
    // Without TLS, and not on this machine, there is no clipboard for pages.
    if (navigator.clipboard) await navigator.clipboard.writeText(text);
    else if (!copyBySelection(text)) said = "Select and copy it";
  } catch {
    said = copyBySelection(text) ? "Copied" : "Select and copy it";
  }
  announce(said);
  button.textContent = said;
  setTimeout(() => { button.textContent = before; }, 1500);
}

function copyBySelection(text) {
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "hidden";
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
}

/** Say something to a screen reader. */
export function announce(text) {
  const region = document.querySelector("#announcements");
  if (region) region.textContent = text;
}

/** Says that a page may not act, and what to do instead. */
export const readOnly = () => (live.overview && !live.mayAct
  ? html`<p class="notice">Browsers may only read here: cancel and retry jobs with curl, or restart with <code>HASTY_UI=act</code>.</p>`
  : nothing);

export const quantiles = (title, values) => html`<tr><th scope="row">${title}</th>
  ${["p50", "p95", "p99"].map((name) => html`<td class="number" data-label=${name}>${duration(values?.[name])}</td>`)}</tr>`;

/** A dialog that asks for a confirmation; with a count, for the count to be typed. */
export function confirm({ title, body, action, typed = null, run }) {
  const dialog = document.querySelector("#confirm");
  const form = dialog.querySelector("form");
  const input = dialog.querySelector("input");
  const button = dialog.querySelector("button.act");
  dialog.querySelector("h2").textContent = title;
  dialog.querySelector("p").textContent = body;
  dialog.querySelector("label").hidden = typed === null;
  dialog.querySelector("label span").textContent = typed === null ? "" : `Type ${typed} to confirm`;
  input.value = "";
  button.textContent = action;
  const check = () => { button.disabled = typed !== null && input.value.trim() !== String(typed); };
  input.oninput = check;
  check();
  form.onsubmit = (event) => {
    event.preventDefault();
    if (button.disabled) return;
    dialog.close();
    run();
  };
  dialog.showModal();
}
