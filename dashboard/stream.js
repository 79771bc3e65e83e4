// The overview's event stream: one tick a second, opened again whatever ends it, and what the last minutes were like.

const KEPT = 600; // ticks

/** What is kept of an overview. */
export const tickOf = ({ at, unfinished, running, free_slots }) => ({
  at: Date.parse(at), unfinished, running, places: running + free_slots,
});

/** Add a tick to those that are kept. */
export const append = (ticks, tick) => [...ticks, tick].slice(-KEPT);

const AGAIN_MS = 2000;
const DEAF_MS = 15000; // without a tick for so long, the connection is taken for dead

export class Stream {
  constructor(onTick) {
    this.onTick = onTick;
    this.ticks = [];
    this.last = null; // the newest overview with its workers, and when they came by this process's own clock
    this.overview = null; // of the tick that is on its way
    this.source = null;
    this.timer = null;
  }

  open() {
    if (this.source) return;
    this.source = new EventSource("/v1/overview");
    this.source.addEventListener("overview", (event) => { this.overview = JSON.parse(event.data); });
    this.source.addEventListener("workers", (event) => this.#take(this.overview, JSON.parse(event.data).data));
    this.source.addEventListener("error", () => {
      // A browser tries again by itself, unless the answer was an error.
      if (this.source?.readyState === EventSource.CLOSED) this.#again(AGAIN_MS);
    });
    this.#watch();
  }

  close() {
    clearTimeout(this.timer);
    this.source?.close();
    this.source = null;
  }

  ageMs() {
    return this.last === null ? null : performance.now() - this.last.receivedAt;
  }

  #take(overview, workers) {
    this.last = { overview, workers, receivedAt: performance.now() };
    this.ticks = append(this.ticks, tickOf(overview));
    this.#watch();
    this.onTick();
  }

  #watch() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.#again(0), DEAF_MS);
  }

  #again(afterMs) {
    this.close();
    this.timer = setTimeout(() => this.open(), afterMs);
  }
}
