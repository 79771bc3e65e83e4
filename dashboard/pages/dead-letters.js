// Messages that could not be processed.

import { html } from "../vendor/lit-html/lit-html.js";
import { get, Resource } from "../api.js";
import { ago, count, plural } from "../format.js";
import { empty, loaded, time } from "../parts.js";

const SHOWN_BYTES = 1000;

export function deadLetters({ draw }) {
  const list = new Resource(() => get("/v1/dead-letters?limit=100"), draw);
  list.refresh();
  return {
    tick: () => list.every(5000),
    view: () => html`<h1>Dead letters</h1>
      <p class="note">Messages that the api-servers could not process, with the reason: find out who publishes them. They are kept for 30 days, and not delivered again. Those of the job-servers are in their own database.</p>
      ${loaded(list, ({ data }) => (data.length ? letters(data) : empty("No dead letters", html`<p>Every message could be processed. There is nothing to do.</p>`)))}`,
  };
}

const letters = (data) => html`<ul class="letters">${data.map((letter) => html`<li class="card">
  <h2>${letter.reason}</h2>
  <dl class="facts">
    <div><dt>received</dt><dd>${time(letter.at)} <small>${ago(letter.at)}</small></dd></div>
    <div><dt>subject</dt><dd><code>${letter.subject}</code></dd></div>
    <div><dt>size</dt><dd>${plural(letter.bytes, "byte")}</dd></div>
  </dl>
  ${content(letter)}</li>`)}</ul>`;

// Only the beginning is sent.
function content({ data, bytes }) {
  if (!bytes) return html`<p class="note">The message is empty.</p>`;
  const words = bytes > SHOWN_BYTES ? `The first ${count(SHOWN_BYTES)} of ${count(bytes)} bytes` : "The whole message";
  return html`<details><summary>${words}</summary><pre tabindex="0">${data}</pre></details>`;
}
