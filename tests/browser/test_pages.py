"""Every page, wide and narrow, light and dark: readable, within the window, and free of errors."""

import json
from datetime import datetime, timedelta
from typing import Literal

import pytest
from playwright.async_api import Browser, Page, Route, expect

from tests.browser.browser import PAGES, WIDTHS, Watched, watched
from tests.browser.conftest import World
from tests.eventually import eventually

pytestmark = [pytest.mark.own_stack, pytest.mark.asyncio(loop_scope="session")]

MANY_TICKS = 130
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
# By what a job's page shows when it is there: the status of the job.
JOBS = {"finished": ".timeline", "failed": ".card.bad pre", "cancelled": ".timeline", "running": ".timeline"}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(("path", "shows"), PAGES.values(), ids=list(PAGES))
async def test_page_is_accessible_and_fits(browser: Browser, world: World, path: str, shows: str, width: int) -> None:
    """With what it shows on a running system."""
    async with watched(browser, world.url, width=width) as watch:
        page = await watch.open(path)
        await page.locator(shows).first.wait_for()
        await judged(watch)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(("state", "shows"), JOBS.items(), ids=list(JOBS))
async def test_job_is_accessible_and_fits(browser: Browser, world: World, state: str, shows: str, width: int) -> None:
    """Whatever has become of it."""
    async with watched(browser, world.url, width=width) as watch:
        page = await watch.open(f"#/jobs/{world.jobs[state]}")
        await page.locator(shows).first.wait_for()
        await judged(watch)


async def test_failed_job_is_readable_on_a_phone(browser: Browser, world: World) -> None:
    """Traceback and events keep their lines and scroll, no number stands apart from its unit, and a wait is seen."""
    async with watched(browser, world.url, width=360) as watch:
        page = await watch.open(f"#/jobs/{world.jobs['failed']}")
        traceback = page.locator(".card.bad pre")
        assert await traceback.evaluate("(one) => one.scrollWidth > one.clientWidth")
        await page.get_by_text("All events").click()
        assert await page.locator("table.events td:nth-child(-n + 5), .facts small").evaluate_all(
            """all => all.every((one) => {
              const text = document.createRange();
              text.selectNodeContents(one);
              return new Set([...text.getClientRects()].map((line) => line.top)).size < 2;
            })"""
        )
        await watch.fits()
        for scheme in SCHEMES:
            await page.emulate_media(color_scheme=scheme)
            bars, behind = await page.evaluate(
                "['--off', '--ground'].map((name) => getComputedStyle(document.documentElement).getPropertyValue(name))"
            )
            assert contrast(bars, behind) >= 3, scheme


def contrast(one: str, other: str) -> float:
    """How two colors contrast, as WCAG measures it; colors in the form ``#rrggbb``."""

    def light(color: str) -> float:
        parts = [int(color.strip()[n : n + 2], 16) / 255 for n in (1, 3, 5)]
        red, green, blue = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    darker, lighter = sorted((light(one), light(other)))
    return (lighter + 0.05) / (darker + 0.05)


async def test_faults_of_every_tab_are_noted(browser: Browser, world: World) -> None:
    """Not only of the one that was opened first."""
    with pytest.raises(AssertionError, match=r"error: from the second tab.*exception: .*thrown there"):
        await fail_in_second_tab(browser, world.url)


async def fail_in_second_tab(browser: Browser, url: str) -> None:
    """Open one beside the first, which does nothing wrong."""
    async with watched(browser, url) as watch:
        tab = await watch.page.context.new_page()
        await tab.goto(f"{url}/ui/")
        await tab.evaluate("""new Promise((done) => {
          console.error("from the second tab");
          addEventListener("error", done);
          setTimeout(() => { throw new Error("thrown there"); });
        }).then(() => null)""")


async def judged(watch: Watched) -> None:
    """A page that is there: within the window, and nothing serious, light and dark."""
    await watch.fits()
    for scheme in SCHEMES:
        await watch.page.emulate_media(color_scheme=scheme)
        await watch.accessible()


@pytest.mark.parametrize("name", [*PAGES, "running job"])
async def test_forced_colours_and_no_motion_show_the_same(browser: Browser, world: World, name: str) -> None:
    """No word depends on a colour or a movement."""
    path, shows = PAGES.get(name, ("", ""))
    if not shows:
        # The one of all tests here has a time limit.
        job = await world.v1.submit("resize", url="in forced colours", seconds=600)
        path, shows = f"#/jobs/{job['id']}", ".timeline i.running"
    async with watched(browser, world.url, forced_colors="active", reduced_motion="reduce") as watch:
        page = await watch.open(path)
        await page.locator(shows).first.wait_for()
        await watch.accessible()
        assert await page.locator("*").evaluate_all(
            "all => all.every((one) => getComputedStyle(one).animationName === 'none')"
        )


async def test_charts_have_the_colours_that_are_forced(browser: Browser, world: World) -> None:
    """And those of the page again when none are."""
    async with watched(browser, world.url, forced_colors="active") as watch:
        page = await watch.open()
        await page.locator("hasty-chart canvas").first.wait_for()
        forced, own = await colour_of(page, "Highlight"), "rgb(11, 92, 173)"
        await eventually(lambda: is_drawn_in(page, forced))
        assert not await is_drawn_in(page, own)
        await page.emulate_media(forced_colors="none", color_scheme="light")
        await eventually(lambda: is_drawn_in(page, own))
        await page.emulate_media(forced_colors="active")
        await eventually(lambda: is_drawn_in(page, forced))
        assert not await is_drawn_in(page, own)


async def colour_of(page: Page, name: str) -> str:
    """What a system colour is on this page: `rgb(0, 0, 0)`."""
    found: str = await page.locator("main").evaluate(
        """(main, name) => {
          const one = document.createElement("i");
          one.style.color = name;
          main.append(one);
          const { color } = getComputedStyle(one);
          one.remove();
          return color;
        }""",
        name,
    )
    return found


async def is_drawn_in(page: Page, colour: str) -> bool:
    """Whether something of the first chart has a colour, of the form `rgb(0, 0, 0)`, or lets others through it."""
    drawn: bool = await page.locator("hasty-chart canvas").first.evaluate(
        """(canvas, colour) => {
          const wanted = colour.match(/\\d+/g).slice(0, 3).map(Number);
          const { width, height } = canvas;
          const copy = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
          copy.drawImage(canvas, 0, 0);
          const { data } = copy.getImageData(0, 0, width, height);
          for (let n = 0; n < data.length; n += 4)
            if (data[n + 3] > 150 && wanted.every((part, at) => Math.abs(data[n + at] - part) < 4)) return true;
          return false;
        }""",
        colour,
    )
    return drawn


async def test_every_chart_has_its_numbers_in_a_table(browser: Browser, world: World) -> None:
    """The chart itself is hidden from screen readers."""
    async with watched(browser, world.url) as watch:
        page = await watch.open()
        charts = page.locator("figure.chart")
        assert await charts.count() == 2
        for n in range(2):
            await charts.nth(n).locator("summary").click()
            await expect(charts.nth(n).locator("tbody tr")).not_to_have_count(0)


async def test_table_has_every_tick_that_the_chart_draws(browser: Browser, world: World) -> None:
    """Those of more than a minute, here all at once."""
    shown = (await world.v1.http.get("/v1/overview")).json()
    start = datetime.fromisoformat(shown["at"]) - timedelta(seconds=MANY_TICKS)
    ticks = [{**shown, "at": (start + timedelta(seconds=n)).isoformat()} for n in range(MANY_TICKS)]
    workers = 'event: workers\ndata: {"data":[]}\n\n'
    body = "".join(f"event: overview\ndata: {json.dumps(tick)}\n\n{workers}" for tick in ticks)

    async def stream(route: Route) -> None:
        await route.fulfill(content_type="text/event-stream", body=body)

    async with watched(browser, world.url) as watch:
        # Without shared workers, a page has a stream of its own.
        await watch.page.add_init_script("delete globalThis.SharedWorker")
        await watch.page.route("**/v1/overview", stream, times=1)
        page = await watch.open()
        depth = page.locator("figure.chart").nth(1)
        await depth.locator("summary").click()
        rows, drawn = await depth.evaluate(
            """async (chart) => {
              const { live } = await import("/ui/live.js");
              return new Promise((done) => live.onTick(() => setTimeout(
                () => done([chart.querySelectorAll("tbody tr").length, live.ticks.length])
              )));
            }"""
        )
        assert rows == drawn >= MANY_TICKS


async def test_first_page_is_small_and_asks_for_nothing_else(browser: Browser, world: World) -> None:
    """Everything that is transferred for it, as the server counts it."""
    async with watched(browser, world.url) as watch:
        page = await watch.open()
        await page.locator("hasty-chart canvas").first.wait_for()
        sizes = await page.evaluate(
            "performance.getEntriesByType('resource').filter((one) => one.name.includes('/ui/'))"
            ".map((one) => one.transferSize)"
        )
        assert len(sizes) > 10
        assert sum(sizes) < 120 * 1024
