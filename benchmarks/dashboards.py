"""What dashboards that are open cost the system under load: 1 and 50 of them, in turn with none."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from statistics import median

from benchmarks.accepting import Costs, alternating, loaded, warm_up
from benchmarks.audit import audit
from benchmarks.figures import Figure, Findings, compared, middle
from benchmarks.load import BenchmarkError, Load
from benchmarks.plan import Plan
from benchmarks.systems import System, hasty

TARGETS = {1: "0.98", 50: "0.90"}
"""How many are open, and the throughput to reach over that without any."""

OPENING_S = 30
HEADERS = "host: {address}\r\nsec-fetch-site: same-origin\r\nsec-fetch-mode: cors\r\naccept: {accept}\r\n\r\n"

Measured = tuple[Load, Costs, int]
"""A load, what each job cost, and how many events each browser got meanwhile at least."""


async def dashboards(plan: Plan) -> Findings:
    """Accepted jobs per second with browsers at the overview, over those without any right before or after."""
    # A single load varies by more than a dashboard costs: more of them, and shorter ones, are needed.
    plan = replace(plan, runs=3 * plan.runs, seconds=plan.seconds / 2)
    series: dict[int, list[tuple[Measured, Measured]]] = {count: [] for count in TARGETS}
    async with hasty() as full:
        await warm_up(plan, full)
        for run in range(plan.runs):
            for count, pairs in series.items():
                pairs.append(await alternating(run, _beside(full, plan, 0), _beside(full, plan, count)))
        await audit(full)
    alone = [cost for pairs in series.values() for (_, cost, _), _ in pairs]
    return Findings(
        [_figure(count, pairs) for count, pairs in series.items()],
        [
            middle("no dashboard open", alone),
            *(middle(f"{count} open", [cost for _, (_, cost, _) in pairs]) for count, pairs in series.items()),
        ],
    )


def _figure(count: int, pairs: Sequence[tuple[Measured, Measured]]) -> Figure:
    cpu = median(sum(alone[1].values()) / sum(beside[1].values()) for alone, beside in pairs)
    events = min(beside[2] for _, beside in pairs)
    return compared(
        f"accept, {count} dashboard{'s' if count > 1 else ''} open; against none",
        "jobs/s",
        [(alone[0].per_s, beside[0].per_s) for alone, beside in pairs],
        target=TARGETS[count],
        note=f"by CPU alone {cpu:.2f}; each browser got {events} or more events a run",
    )


def _beside(system: System, plan: Plan, count: int) -> Callable[[], Awaitable[Measured]]:
    """Return what loads the system while so many browsers are open."""

    async def measured() -> Measured:
        async with _opened(system.stack.url, count) as browsers:
            before = [browser.events for browser in browsers]
            load, costs = await loaded(system, plan)
            events = [browser.events - then for browser, then in zip(browsers, before, strict=True)]
        if not all(events):
            raise BenchmarkError(f"{events.count(0)} of {count} browsers got no event during the load")
        await system.drained()
        return load, costs, min(events, default=0)

    return measured


@asynccontextmanager
async def _opened(url: str, count: int) -> AsyncIterator[list["Browser"]]:
    """Browsers that show the overview, until the block is left.

    Raises:
        BenchmarkError: one of them did not get what a browser would get.
    """
    browsers = [Browser(url.removeprefix("http://")) for _ in range(count)]
    tasks = [asyncio.create_task(browser.show(), name="browser") for browser in browsers]
    try:
        async with asyncio.timeout(OPENING_S):
            for browser in browsers:
                await browser.is_shown.wait()
        yield browsers
    finally:
        for task in tasks:
            task.cancel()
        for error in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(error, BenchmarkError | OSError):
                raise BenchmarkError(f"a browser failed: {error}") from error


class Browser:
    """The requests of a browser that shows the overview; its files are loaded already, and nothing is drawn.

    `events` counts the overviews that came, `is_shown` is set with the first of them.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self.events = 0
        self.is_shown = asyncio.Event()

    async def show(self) -> None:
        """Keep the event stream, until this is cancelled."""
        try:
            async with self._connected() as (reader, writer):
                await self._ask(reader, writer, "/v1/overview", "text/event-stream")
                while line := await reader.readline():
                    if line.startswith(b"event: overview"):
                        self.events += 1
                        self.is_shown.set()
        finally:
            self.is_shown.set()  # nobody waits for a browser that has failed
        raise BenchmarkError("the overview's stream has ended")

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        host, _, port = self._address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port), limit=1024 * 1024)
        try:
            yield reader, writer
        finally:
            writer.close()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str, accept: str) -> bytes:
        """Send a request; the head of its answer."""
        writer.write(f"GET {path} HTTP/1.1\r\n{HEADERS.format(address=self._address, accept=accept)}".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise BenchmarkError(f"a browser was answered {head[:100]!r}")
        return head
