"""Pictures of every page and dialog: `python -m tests.browser.screenshots FOLDER`."""

import asyncio
import itertools
import random
import sys
from pathlib import Path
from typing import Any, Literal

from playwright.async_api import BrowserContext, Page

from tests.browser.browser import launched, watched
from tests.browser.conftest import World, system_of_jobs
from tests.e2e.v1 import V1

SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
WIDTHS = (1280, 360)
LOAD_S = 55
PER_S = 6


async def main(folder: Path) -> None:
    """Run a system, give it something to do, and take the pictures meanwhile."""
    work = folder / "system"
    async with system_of_jobs(work) as world, launched() as browser:
        load = asyncio.create_task(post(world.v1))
        # One page is open all the while, so that the history of the depth is as long as the load's.
        async with watched(browser, world.url) as watch:
            await watch.open()
            await asyncio.sleep(LOAD_S)
            await take(folder, world, watch.page.context)
        load.cancel()


async def take(folder: Path, world: World, context: BrowserContext) -> None:
    """Take a picture of every page in every look, in a context that has seen the load."""
    pages = {
        "overview": "",
        "jobs": "#/jobs",
        "jobs-none": "#/jobs?label=none",
        "job-failed": f"#/jobs/{world.jobs['failed']}",
        "kinds": "#/kinds",
        "workers": "#/workers",
        "dead-letters": "#/dead-letters",
    }
    page = await context.new_page()
    for width, scheme in itertools.product(WIDTHS, SCHEMES):
        await page.set_viewport_size({"width": width, "height": 900})
        await page.emulate_media(color_scheme=scheme)
        # Each look has its own, which runs for as long as it takes.
        running = await world.v1.submit("resize", url=f"long {width} {scheme}", seconds=600)
        slept = (await world.v1.http.post("/", json={"object_id": f"{width} {scheme}"})).json()["message"]["job_id"]
        shown = {"job-running": f"#/jobs/{running['id']}", "job-asleep": f"#/jobs/{slept}", **pages}
        for name, path in shown.items():
            await page.goto(f"{world.url}/ui/{path}")
            await page.locator(".live.on").wait_for()
            # Two ticks, so that everything has been loaded and drawn.
            await page.wait_for_timeout(2_500)
            for summary in await page.locator(".timeline ~ details > summary").all():
                await summary.click()
            await page.screenshot(path=folder / f"{name}-{width}-{scheme}.png", full_page=name != "jobs")
        await dialogs(folder, page, f"{world.url}/ui/#/jobs/{running['id']}", f"{width}-{scheme}")


async def dialogs(folder: Path, page: Page, job: str, look: str) -> None:
    """Take a picture of each dialog."""
    await page.goto(job)
    await page.get_by_role("button", name="Cancel").click()
    await page.screenshot(path=folder / f"dialog-cancel-{look}.png")
    await page.keyboard.press("Escape")
    await page.keyboard.press("?")
    await page.screenshot(path=folder / f"dialog-help-{look}.png")
    await page.keyboard.press("Escape")
    await page.goto(f"{page.url.partition('#')[0]}#/jobs")
    # A phone shows no head of the table.
    await page.locator("td.choice input").first.check()
    await page.get_by_role("button", name="Select all").click()
    await page.screenshot(path=folder / f"jobs-chosen-{look}.png")
    await page.get_by_role("button", name="Cancel ").click()
    await page.screenshot(path=folder / f"dialog-cancel-many-{look}.png")
    await page.keyboard.press("Escape")


async def post(v1: V1) -> None:
    """Post jobs of all kinds until it is cancelled."""
    chance = random.Random(7)
    for n in range(100_000):
        kind = chance.choices(["greet", "fetch", "resize", "send"], [60, 20, 12, 8])[0]
        inputs: dict[str, dict[str, Any]] = {
            "greet": {"name": f"Ada {n}"},
            "fetch": {"url": f"page-{n}", "fails": chance.choice([0, 0, 1, 2, 9])},
            "resize": {"url": f"picture-{n % 20}", "seconds": chance.choice([2, 5, 20])},
            "send": {"to": chance.choice(["ada@example.org"] * 4 + ["nobody"])},
        }
        await v1.ask(kind, input=inputs[kind], labels=[chance.choice(["web", "nightly"])])
        await asyncio.sleep(chance.expovariate(PER_S))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
