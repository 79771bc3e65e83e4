// The frame around the pages: navigation, keyboard, how fresh everything is.

import { html, nothing, render } from "./vendor/lit-html/lit-html.js";
import { duration } from "./format.js";
import { live, start } from "./live.js";
import { icon } from "./parts.js";
import { deadLetters } from "./pages/dead-letters.js";
import { job } from "./pages/job.js";
import { jobs } from "./pages/jobs.js";
import { kinds } from "./pages/kinds.js";
import { overview } from "./pages/overview.js";
import { workers } from "./pages/workers.js";

const PAGES = [
  { path: "", title: "Overview", make: overview },
  { path: "jobs", title: "Jobs", make: jobs },
  { path: "kinds", title: "Kinds", make: kinds },
  { path: "workers", title: "Workers", make: workers },
  { path: "dead-letters", title: "Dead letters", make: deadLetters },
];
const JOB = { path: "jobs", title: "Job", make: job };

const KEYS = [
  ["/", "search for a job"],
  ["j, k", "next, previous row"],
  ["Enter", "open the row"],
  ["Esc", "leave the search, or go back to the list"],
  ["?", "this help"],
];

let current = null; // { page, entry, hash }
let row = -1;
let drawing = false;

/** Draw soon; once, however often it is asked for. */
function draw() {
  if (drawing) return;
  drawing = true;
  queueMicrotask(() => {
    drawing = false;
    render(frame(), document.querySelector("#app"));
  });
}

function route() {
  const [path, search = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, id] = path.split("/");
  const entry = name === "jobs" && id ? JOB : (PAGES.find((page) => page.path === name) ?? PAGES[0]);
  return { entry, id: id ? decodeURIComponent(id) : null, params: new URLSearchParams(search) };
}

function go() {
  const { entry, id, params } = route();
  // The same page with other filters keeps its place; another page starts at the top, and says its name.
  const same = current?.entry === entry && current.id === id;
  if (!same) {
    current?.page.stop?.();
    current = { entry, id, page: entry.make({ id, draw }) };
    row = -1;
    scrollTo(0, 0);
  }
  current.page.show?.(params);
  document.title = `${id ? `Job ${id.slice(-12)}` : entry.title} · Hasty`;
  draw();
  if (!same && started) document.querySelector("main")?.focus({ preventScroll: true });
}

function freshness() {
  if (live.overview === null && !live.stale) return html`<span class="live">connecting</span>`;
  if (live.stale) return html`<span class="live stale">${icon("warning")}no updates for ${duration(Math.floor(live.ageMs / 1000))}</span>`;
  return html`<span class="live on"><span class="dot" aria-hidden="true"></span>live</span>`;
}

function frame() {
  const { entry, page } = current;
  return html`
    <a class="skip" href="#main" @click=${skip}>Skip to the content</a>
    <header>
      <a class="name" href="#/"><img src="/ui/icon.svg" alt="" width="24" height="24">Hasty</a>
      <nav aria-label="Pages">${PAGES.map((one) => html`<a href="#/${one.path}" aria-current=${one.path === entry.path ? "page" : nothing}>${one.title}</a>`)}</nav>
      <div class="state">
        ${live.overview && !live.mayAct ? html`<span class="badge">read only</span>` : nothing}
        ${freshness()}
        <button type="button" class="quiet" aria-label="Keyboard help" @click=${help}>?</button>
      </div>
    </header>
    ${live.stale ? html`<p class="notice bad band" role="status">${icon("warning")}The server has sent no updates for ${duration(Math.floor(live.ageMs / 1000))}${live.overview ? ": what is shown is that old" : ""}. Reconnecting automatically.</p>` : nothing}
    <main id="main" tabindex="-1" class=${live.stale ? "stale" : ""}>${page.view()}</main>
    <div id="announcements" class="hidden" role="status"></div>
    <dialog id="help" aria-labelledby="help-title"><form method="dialog"><h2 id="help-title">Keyboard</h2>
      <dl class="keys">${KEYS.map(([key, what]) => html`<div><dt>${key.split(", ").map((one) => html`<kbd>${one}</kbd> `)}</dt><dd>${what}</dd></div>`)}</dl>
      <button>Close</button></form></dialog>
    <dialog id="confirm" aria-labelledby="confirm-title"><form method="dialog"><h2 id="confirm-title">Sure?</h2><p></p>
      <label><span></span><input inputmode="numeric" autocomplete="off"></label>
      <div class="actions"><button type="button" class="quiet" @click=${(event) => event.target.closest("dialog").close()}>Leave it</button><button class="act">Do it</button></div></form></dialog>`;
}

function skip(event) {
  event.preventDefault();
  document.querySelector("main").focus();
}

const help = () => document.querySelector("#help").showModal();

// -- keyboard ---------------------------------------------------------------------------------------------------------

const rows = () => [...document.querySelectorAll("main [data-href]")];

function select(step) {
  const all = rows();
  if (!all.length) return;
  const at = all.findIndex((one) => one.classList.contains("chosen"));
  row = Math.min(Math.max((at < 0 ? row : at) + step, 0), all.length - 1);
  all.forEach((one, n) => one.classList.toggle("chosen", n === row));
  const link = all[row].querySelector("a");
  link.focus({ preventScroll: true });
  all[row].scrollIntoView({ block: "nearest" });
}

function search() {
  const box = () => document.querySelector("#search");
  if (!box()) location.hash = "#/jobs";
  // The page is drawn after the address has changed.
  setTimeout(() => box()?.focus(), 50);
}

function escape(event) {
  if (event.target.matches("input, select")) event.target.blur();
  else if (current.entry === JOB) location.hash = sessionStorage.getItem("list") ?? "#/jobs";
}

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.key === "Escape") return void escape(event);
  if (event.target.matches("input, select, textarea")) return;
  const action = { "/": search, j: () => select(1), k: () => select(-1), "?": help }[event.key];
  if (!action) return;
  event.preventDefault();
  action();
});

let started = false;
addEventListener("hashchange", go);
addEventListener("redraw", draw);
go();
start();
started = true;
live.onTick(() => {
  current.page.tick?.();
  draw();
});
document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && current.page.tick?.());
// Ages grow without news, too; and what could not be loaded is asked for again.
setInterval(() => {
  if (live.stale) current.page.tick?.();
  draw();
}, 1000);
