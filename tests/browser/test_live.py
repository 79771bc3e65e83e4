"""What happens while the page is open: workers that die, servers that are away, clocks that are wrong, many tabs."""

import json
import re
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from playwright.async_api import Browser, Locator, expect

from hasty.server.local_stack import Stack
from tests.browser.browser import Watched, watched
from tests.browser.conftest import World
from tests.e2e.stacks import services
from tests.eventually import eventually

pytestmark = [pytest.mark.own_stack, pytest.mark.asyncio(loop_scope="session")]

WRONG_CLOCK = """
const shift = 3 * 365 * 86400e3;
const Right = Date;
globalThis.Date = class extends Right {
  constructor(...given) { super(...(given.length ? given : [Right.now() + shift])); }
  static now() { return Right.now() + shift; }
};
"""


NOTE_SILENCE = """() => {
  globalThis.said = [];
  setInterval(() => document.querySelectorAll(".worker.silent").forEach((one) => said.push(one.innerText)), 100);
}"""


def ended_streams(stack: Stack, since: datetime) -> int:
    """How many event streams that began at `since` or later nginx has seen the end of; it says ends by the second."""
    lines = stack.children["nginx"].log.read_text().splitlines()
    requests = [json.loads(line) for line in lines if line.startswith("{")]
    streams = [one for one in requests if one["uri"] == "/v1/overview" and one["request_s"] > 1]
    began = [datetime.fromisoformat(one["time"]) - timedelta(seconds=one["request_s"]) for one in streams]
    return sum(at > since - timedelta(seconds=1) for at in began)


async def test_many_tabs_share_one_stream(browser: Browser, world: World) -> None:
    """A browser opens six connections to a host: seven tabs with a stream each would hang."""
    since = datetime.now(UTC)
    async with watched(browser, world.url) as watch:
        await watch.open()
        for _ in range(7):
            tab = await watch.page.context.new_page()
            await tab.goto(f"{world.url}/ui/#/workers")
            await tab.locator(".live.on").wait_for()
            await tab.locator(".workers li").first.wait_for()
        await expect(watch.page.locator(".live.on")).to_be_visible()
        assert ended_streams(world.stack, since) == 0
    await eventually(lambda: ended_streams(world.stack, since))
    assert ended_streams(world.stack, since) == 1


async def test_killed_worker_shows_and_its_job_goes_on(watch: Watched, world: World) -> None:
    """On the page that was open all the while."""
    job = await world.v1.submit("resize", url="moved", seconds=12)
    worker = (await world.v1.running(job["id"]))["worker"]
    page = await watch.open(f"#/jobs/{job['id']}")
    await expect(page.locator(".why-now")).to_contain_text(worker)
    [killed] = [child for child in services(world.stack, "job-server") if worker.endswith(f"-{child.pid}")]
    tab = await page.context.new_page()
    await tab.goto(f"{world.url}/ui/#/workers")
    await tab.locator(".workers li").first.wait_for()
    await tab.evaluate(NOTE_SILENCE)
    await killed.kill()
    silent = tab.locator(".worker.silent").filter(has_text=worker)
    await expect(silent).to_contain_text("elsewhere now", timeout=20_000)
    left = [float(told) for told in re.findall(r"elsewhere in (\d+(?:\.\d+)?) s", await tab.evaluate("said.join()"))]
    assert left == sorted(left, reverse=True)
    assert left[0] > left[-1]
    await expect(page.locator(".title .status")).to_have_text("finished", timeout=60_000)
    await expect(page.locator(".facts")).not_to_contain_text(worker)
    assert (await world.v1.job(job["id"]))["worker"] != worker


async def test_page_is_right_again_after_the_server_was_away(browser: Browser, quiet: World) -> None:
    """Stale with its age meanwhile; no reload."""
    [api_server] = services(quiet.stack, "api-server")
    async with watched(browser, quiet.url) as watch:
        watch.expected = ("Failed to load resource",)
        page = await watch.open("#/workers")
        await page.locator(".workers li").first.wait_for()
        # Killed, it would be back before anybody notices.
        await api_server.terminate()
        await expect(page.locator(".live.stale")).to_contain_text("no updates for", timeout=20_000)
        await expect(page.locator("main.stale")).to_be_visible()
        await watch.accessible()
        await api_server.start()
        await expect(page.locator(".live.on")).to_be_visible(timeout=60_000)
        await expect(page.locator("main.stale")).to_have_count(0)
        await expect(page.locator(".notice.bad")).to_have_count(0, timeout=30_000)
        posted = await quiet.v1.http.post("/", json={"object_id": "after it was away"})
        assert posted.status_code == 201
        await page.get_by_role("link", name="Jobs").click()
        await expect(page.locator("tr[data-href]").first).to_contain_text("after it was away")


async def test_failing_page_shows_how_old_it_is(browser: Browser, world: World) -> None:
    """In grey, though the stream lives; and is right again as soon as it is answered."""
    async with watched(browser, world.url) as watch:
        watch.expected = ("Failed to load resource",)
        page = await watch.open("#/kinds")
        await page.locator(".kinds li").first.wait_for()
        await page.route("**/v1/kinds", lambda route: route.abort())
        notice = page.locator(".notice.bad")
        await expect(notice).to_contain_text("What is shown is")
        before = await age_s(notice)

        async def grown() -> bool:
            return await age_s(notice) > before

        await eventually(grown, within_s=20)
        await expect(page.locator(".live.on")).to_be_visible()
        assert "grayscale" in await page.locator(".old:has(.kinds)").evaluate("(one) => getComputedStyle(one).filter")
        await watch.accessible()
        await page.unroute("**/v1/kinds")
        await expect(notice).to_have_count(0)
        await expect(page.locator(".old")).to_have_count(0)
        await expect(page.locator(".kinds li").first).to_be_visible()


async def age_s(notice: Locator) -> float:
    """How many seconds old what is shown is, as a notice says."""
    found = re.search(r"is (\d+\.?\d*) (ms|s) old", await notice.inner_text())
    assert found
    return float(found[1]) / (1000 if found[2] == "ms" else 1)


async def test_wrong_clock_of_the_browser_does_not_matter(watch: Watched, world: World) -> None:
    """Ages and times are by the server's clock."""
    await watch.page.add_init_script(WRONG_CLOCK)
    job = await world.v1.submit("greet", wait=20, name="clock")
    page = await watch.open(f"#/jobs/{job['id']}")
    await expect(page.locator(".facts")).to_contain_text("s ago")
    await expect(page.locator(".facts")).not_to_contain_text("days")
    await page.goto(f"{world.url}/ui/#/jobs?age=1h&label=none")
    # On a slow machine, none is found in the time that a search has.
    await expect(page.locator(".empty")).to_be_visible()
    asked = await page.evaluate("performance.getEntriesByType('resource').map((one) => one.name)")
    since = [datetime.fromisoformat(httpx.URL(one).params["since"]) for one in asked if "since=" in one]
    now = datetime.fromisoformat((await world.v1.http.get("/v1/overview")).json()["at"])
    assert abs(now - timedelta(hours=1) - since[-1]) < timedelta(minutes=1)
