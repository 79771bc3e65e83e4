// Charts: uPlot in an element, in the colours of the page; every chart has its numbers in a table beside it.

import { html } from "./vendor/lit-html/lit-html.js";

const HEIGHT = 190;
const LINES = { dashed: [6, 4], dotted: [2, 4] };
// What changes the colours: of the page, and the user's own, which the style sheet gives a chart as system colours.
const SCHEMES = ["(prefers-color-scheme: dark)", "(forced-colors: active)"].map((query) => matchMedia(query));

class Chart extends HTMLElement {
  #plot = null;
  #columns = null;
  #series = [];
  #format = String;

  /** Series: `{label, color, line?, fill?}` with a colour of the style sheet and a line of `LINES`; columns: x first, then one of each. */
  set chart({ series, columns, format }) {
    this.#series = series;
    this.#columns = columns;
    this.#format = format;
    this.#draw();
  }

  connectedCallback() {
    this.sizes = new ResizeObserver(() => {
      if (this.#plot && this.clientWidth) this.#plot.setSize({ width: this.clientWidth, height: HEIGHT });
    });
    this.sizes.observe(this);
    this.onColors = () => {
      this.#clear();
      this.#draw();
    };
    SCHEMES.forEach((scheme) => scheme.addEventListener("change", this.onColors));
    this.#draw();
  }

  disconnectedCallback() {
    this.sizes.disconnect();
    SCHEMES.forEach((scheme) => scheme.removeEventListener("change", this.onColors));
    this.#clear();
  }

  #clear() {
    this.#plot?.destroy();
    this.#plot = null;
  }

  #draw() {
    if (!this.isConnected || !this.#columns) return;
    if (this.#plot) this.#plot.setData(this.#columns);
    else this.#plot = new globalThis.uPlot(this.#options(), this.#columns, this);
  }

  /** A colour of the style sheet as numbers: a canvas does not know which colours a system colour stands for here. */
  #color(name) {
    this.style.color = `var(--${name})`;
    const { color } = getComputedStyle(this);
    this.style.color = "";
    return color;
  }

  #options() {
    const color = (name) => this.#color(name);
    const axis = { stroke: color("muted"), grid: { stroke: color("line"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
    return {
      width: this.clientWidth || 300,
      height: HEIGHT,
      legend: { show: false },
      cursor: { show: false },
      scales: { x: { time: false }, y: { range: (_, __, most) => [0, Math.max(most * 1.1, 1)] } },
      axes: [
        { ...axis, values: (_, values) => values.map((value) => this.#format(value)), space: 70, size: 24, incrs: [1, 2, 5, 10, 20, 30, 60, 120, 300] },
        { ...axis, size: 48, values: (_, values) => values.map((value) => (value >= 10000 ? `${value / 1000}k` : value)) },
      ],
      series: [{}, ...this.#series.map((one) => ({
        label: one.label, stroke: color(one.color), width: 2, dash: LINES[one.line], points: { show: false },
        fill: one.fill ? color(`${one.color}-wash`) : undefined,
      }))],
    };
  }
}

customElements.define("hasty-chart", Chart);

const opened = new Set(); // titles of the charts whose tables are open

/** A chart with its legend and its table. `rows()` gives the table's, `[x, ...values]` as text: while it is closed, it has none. */
export function chart({ title, note, series, columns, format, heads, rows }) {
  return html`<figure class="card chart">
    <figcaption><h2>${title}</h2><ul class="legend">${series.map((one) => html`<li><span class="mark ${one.color} ${one.line ?? ""}" aria-hidden="true"></span>${one.label}</li>`)}</ul></figcaption>
    <hasty-chart aria-hidden="true" .chart=${{ series, columns, format }}></hasty-chart>
    ${note ? html`<p class="note">${note}</p>` : ""}
    <details ?open=${opened.has(title)} @toggle=${(event) => toggled(title, event.target.open)}><summary>As a table</summary><div class="scroll" tabindex="0" role="region" aria-label=${title}><table class="plain"><thead><tr>${heads.map((head) => html`<th scope="col">${head}</th>`)}</tr></thead>
      <tbody>${(opened.has(title) ? rows() : []).map((cells) => html`<tr>${cells.map((cell, n) => (n ? html`<td class="number">${cell}</td>` : html`<th scope="row">${cell}</th>`))}</tr>`)}</tbody></table></div></details>
  </figure>`;
}

function toggled(title, open) {
  if (open) opened.add(title);
  else opened.delete(title);
  dispatchEvent(new Event("redraw"));
}
