// One event stream for all tabs of a browser; it is open while one of them can be seen.

import { Stream } from "./stream.js";

const ports = new Map(); // by port: whether its tab can be seen
const stream = new Stream(() => ports.forEach((_, port) => port.postMessage(news())));

function news() {
  return { overview: stream.last.overview, workers: stream.last.workers, ageMs: stream.ageMs() };
}

function openOrClose() {
  if ([...ports.values()].some(Boolean)) stream.open();
  else stream.close();
}

globalThis.addEventListener("connect", (event) => {
  const [port] = event.ports;
  port.addEventListener("message", ({ data }) => {
    if (data === "gone") ports.delete(port);
    else ports.set(port, data === "seen");
    openOrClose();
  });
  port.start();
  if (stream.last) port.postMessage({ ...news(), ticks: stream.ticks });
});
