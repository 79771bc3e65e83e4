"""What a page shows when there is nothing yet, nothing may be done, or nothing can be had."""

import asyncio
import re

import pytest
from playwright.async_api import Browser, expect

from tests.browser.browser import WIDTHS, watched
from tests.browser.conftest import World
from tests.browser.test_pages import judged
from tests.e2e.stacks import services

pytestmark = [pytest.mark.own_stack, pytest.mark.asyncio(loop_scope="session")]


@pytest.mark.parametrize("width", WIDTHS)
async def test_empty_list_shows_a_command_that_works(browser: Browser, quiet: World, width: int) -> None:
    """It is run as it stands there, and the job appears by itself. Other tests may have made jobs: a view of none."""
    async with watched(browser, quiet.url, width=width) as watch:
        hidden = re.compile(r"/v1/jobs\?limit=50$")
        await watch.page.route(hidden, lambda route: route.fulfill(json={"data": [], "next": None}))
        page = await watch.open("#/jobs")
        await expect(page.get_by_role("heading", name="No jobs yet")).to_be_visible()
        await judged(watch)
        command = (await page.locator(".empty pre").inner_text()).replace('"x"', f'"empty {width}"')
        process = await asyncio.create_subprocess_shell(command, stdout=asyncio.subprocess.PIPE)
        output, _ = await process.communicate()
        assert b'"status":"finished"' in output
        await page.unroute(hidden)
        await expect(page.locator("tr[data-href]").first).to_contain_text(f"empty {width}")


@pytest.mark.parametrize("width", WIDTHS)
async def test_reader_is_told_so_and_finds_no_button_that_acts(browser: Browser, quiet: World, width: int) -> None:
    """The server would refuse it anyway."""
    posted = (await quiet.v1.http.post("/", json={"object_id": f"read only {width}"})).json()["message"]["job_id"]
    async with watched(browser, quiet.url, width=width) as watch:
        page = await watch.open(f"#/jobs/{posted}")
        await expect(page.get_by_text("read only", exact=True).first).to_be_visible()
        await expect(page.get_by_text("Browsers may only read here")).to_be_visible()
        for name in ("Cancel", "Retry"):
            await expect(page.get_by_role("button", name=name, exact=True)).to_have_count(0)
        await judged(watch)
        watch.expected = ("status of 403",)
        status = await page.evaluate(
            """async (id) => (await fetch(`/v1/jobs/${id}/retry`, {
              method: "POST", headers: {"content-type": "application/json"},
            })).status""",
            posted,
        )
        assert status == 403


@pytest.mark.parametrize("width", WIDTHS)
async def test_slow_server_shows_loading_and_then_everything(browser: Browser, quiet: World, width: int) -> None:
    """Frozen before the page is opened, and freed while it waits."""
    [api_server] = services(quiet.stack, "api-server")
    async with watched(browser, quiet.url, width=width) as watch:
        api_server.pause()
        try:
            await watch.page.goto(f"{quiet.url}/ui/#/kinds")
            await expect(watch.page.locator(".loading")).to_be_visible()
            await judged(watch)
        finally:
            api_server.resume()
        await expect(watch.page.locator(".kinds li")).to_have_count(1)
        await expect(watch.page.locator(".live.on")).to_be_visible()


@pytest.mark.parametrize("width", WIDTHS)
async def test_page_without_an_answer_can_be_asked_for_again(browser: Browser, quiet: World, width: int) -> None:
    """It says what is wrong meanwhile."""
    async with watched(browser, quiet.url, width=width) as watch:
        watch.expected = ("Failed to load resource",)
        await watch.page.route("**/v1/kinds", lambda route: route.abort())
        page = await watch.open("#/kinds")
        await expect(page.locator(".notice.bad")).to_contain_text("Retrying automatically")
        await judged(watch)
        await page.unroute("**/v1/kinds")
        await page.get_by_role("button", name="Try again").click()
        await expect(page.locator(".kinds li")).to_have_count(1)
        await expect(page.locator(".notice.bad")).to_have_count(0)


@pytest.mark.parametrize("width", WIDTHS)
async def test_page_without_workers_shows_how_to_start_one(browser: Browser, quiet: World, width: int) -> None:
    """From the sources and in containers."""
    async with watched(browser, quiet.url, width=width) as watch:
        await watch.page.route("**/v1/workers", lambda route: route.fulfill(json={"data": []}))
        page = await watch.open("#/workers")
        await expect(page.get_by_role("heading", name="No workers")).to_be_visible()
        assert await page.locator(".empty pre").all_inner_texts() == [
            "make up WORK=tasks.py",
            "HASTY_WORK=tasks.py docker compose up -d",
        ]
        await judged(watch)


async def test_root_leads_a_browser_to_the_dashboard(browser: Browser, quiet: World) -> None:
    """Whoever opens the address without a path."""
    async with watched(browser, quiet.url) as watch:
        await watch.page.goto(quiet.url)
        await expect(watch.page).to_have_url(f"{quiet.url}/ui/")
        await expect(watch.page.locator(".verdict")).to_be_visible()
