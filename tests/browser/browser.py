"""A Chromium, and pages in it that note everything a page should not do."""

import hashlib
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, ConsoleMessage, Page, Request, async_playwright, expect

INSTALL = "make chromium"
ARGUMENTS = [
    # Root has no sandbox; everything else keeps the browser from asking anything but the tested system.
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
]
VENDOR = Path(__file__).parent / "vendor"
SERIOUS = {"serious", "critical"}
WIDTHS = [1280, 360]
# By what a page shows when it is there: its address.
PAGES = {
    "overview": ("", ".figures"),
    "jobs": ("#/jobs", "table.jobs tbody tr"),
    "jobs that are none": ("#/jobs?label=none", ".empty"),
    "kinds": ("#/kinds", ".kinds li"),
    "workers": ("#/workers", ".workers li"),
    "dead letters": ("#/dead-letters", ".letters li"),
}

# A busy machine is slow, and nothing here is about seconds.
expect.set_options(timeout=30_000)


def chromium() -> str:
    """The browser's program; an error that says how to install it where there is none."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        raise RuntimeError(f"there is no chromium, which the tests of the dashboard need: {INSTALL}")
    return path


@asynccontextmanager
async def launched() -> AsyncIterator[Browser]:
    """A browser until the block is left."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium(), args=ARGUMENTS)
        yield browser
        await browser.close()


@dataclass
class Watched:
    """A page at a system's dashboard; `faults` is what it did wrong, `expected` are words of errors that may come."""

    page: Page
    url: str
    faults: list[str] = field(default_factory=list)
    expected: tuple[str, ...] = ()

    async def open(self, path: str = "") -> Page:
        """Open the dashboard, and wait until it hears the system."""
        await self.page.goto(f"{self.url}/ui/{path}")
        await self.page.locator(".live.on").wait_for()
        return self.page

    async def accessible(self) -> None:
        """Nothing that axe finds serious."""
        await self.page.evaluate(axe())
        found: dict[str, Any] = await self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        serious = [
            f"{one['id']}: {node['target']} {node['failureSummary']}"
            for one in found["violations"]
            if one["impact"] in SERIOUS
            for node in one["nodes"]
        ]
        assert not serious, "\n".join(serious)

    async def fits(self) -> None:
        """Nothing sticks out to the side."""
        wide, has = await self.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert wide <= has

    def note_console(self, message: ConsoleMessage) -> None:
        """Errors, and with them what the policy refused."""
        if message.type in {"error", "warning"} and not any(word in message.text for word in self.expected):
            self.faults.append(f"{message.type}: {message.text}")

    def note_request(self, request: Request) -> None:
        """Requests for anything but the tested system."""
        if not request.url.startswith(self.url):
            self.faults.append(f"foreign request: {request.url}")


@asynccontextmanager
async def watched(browser: Browser, url: str, *, width: int = 1280, **context: Any) -> AsyncIterator[Watched]:
    """A page in a context of its own; it must have done nothing wrong when the block is left."""
    made = await browser.new_context(viewport={"width": width, "height": 900}, **context)
    made.set_default_timeout(30_000)
    page = await made.new_page()
    one = Watched(page, url)
    # Of every page in it, also of those that are opened later.
    made.on("console", one.note_console)
    made.on("weberror", lambda error: one.faults.append(f"exception: {error.error}"))
    made.on("request", one.note_request)
    try:
        yield one
        assert not one.faults, one.faults
    finally:
        await made.close()


def axe() -> str:
    """axe-core, as it was published."""
    rows = [line.split() for line in (VENDOR / "vendored.txt").read_text().splitlines() if not line.startswith("#")]
    for sha, name, *_ in rows:
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == sha, name
    return (VENDOR / "axe.min.js").read_text()
