"""A job's page: it follows the job by itself, shows its attempts to scale, and acts."""

import itertools
import re

import pytest
from playwright.async_api import expect

from tests.browser.browser import Watched
from tests.browser.conftest import World

pytestmark = [pytest.mark.own_stack, pytest.mark.asyncio(loop_scope="session")]


async def test_running_job_is_followed_to_its_end(watch: Watched, world: World) -> None:
    """Progress, then the outcome, without a reload."""
    job = await world.v1.submit("resize", url="followed", seconds=6)
    page = await watch.open(f"#/jobs/{job['id']}")
    await expect(page.locator(".progress")).to_contain_text("tiles of followed")
    await expect(page.locator(".title .status")).to_have_text("running")
    await expect(page.locator(".title .status")).to_have_text("finished")
    await expect(page.locator("pre").filter(has_text='"bytes": 1024')).to_be_visible()
    await expect(page.locator(".timeline")).to_contain_text("attempt 1 finished")


async def test_attempts_are_drawn_one_after_the_other(watch: Watched, world: World) -> None:
    """Each where it was in time, with what it waited for between."""
    job = await world.v1.submit("fetch", wait=30, url="drawn", fails=2)
    page = await watch.open(f"#/jobs/{job['id']}")
    await expect(page.locator(".timeline")).to_contain_text("attempt 3 finished")
    bars = page.locator(".track i:not(.waits)")
    assert await bars.count() == 3
    boxes = [await bars.nth(n).bounding_box() for n in range(3)]
    for before, after in itertools.pairwise(box for box in boxes if box is not None):
        assert before["x"] + before["width"] < after["x"]
    await page.get_by_text("All events").click()
    await expect(page.locator("details table")).to_contain_text("503 from drawn")


async def test_job_that_sleeps_is_followed_to_its_end(watch: Watched, world: World) -> None:
    """It runs on a worker, and when it has ended it does not only wait; the heads of numbers stand above them."""
    posted = await world.v1.http.post("/", json={"object_id": "followed"})
    page = await watch.open(f"#/jobs/{posted.json()['message']['job_id']}")
    await expect(page.locator(".title .status")).to_have_text("running")
    await expect(page.locator(".why-now")).to_contain_text("attempt 1 of 1 runs on")
    await expect(page.locator(".timeline .what").last).to_have_text("attempt 1, ongoing")
    await expect(page.locator(".title .status")).to_have_text("finished", timeout=60_000)
    await expect(page.locator(".timeline .what")).to_have_text("waiting and running, finished")
    await page.get_by_text("All events").click()
    assert await page.locator("details thead th.number").all_inner_texts() == ["Attempt", "Run"]


async def test_worker_shows_what_sleeps_beside_its_handlers(watch: Watched, world: World) -> None:
    """It is not idle, though none of its places is taken."""
    await world.v1.http.post("/", json={"object_id": "beside handlers"})
    page = await watch.open("#/workers")
    await expect(page.locator(".worker .status").filter(has_text="asleep")).not_to_have_count(0)


async def test_failed_job_shows_its_traceback(watch: Watched, world: World) -> None:
    """And why, in a sentence."""
    job = await world.v1.submit("fetch", wait=30, url="broken", fails=9)
    page = await watch.open(f"#/jobs/{job['id']}")
    await expect(page.locator(".card.bad h2")).to_have_text("ConnectionError")
    await expect(page.locator(".card.bad pre")).to_contain_text("Traceback (most recent call last)")
    await expect(page.locator(".why-now")).to_contain_text("ConnectionError: 503 from broken")


async def test_job_is_cancelled_and_retried(watch: Watched, world: World) -> None:
    """After a question; the retry leads to the new job, which names the old one."""
    job = await world.v1.submit("resize", url="stopped", seconds=600)
    page = await watch.open(f"#/jobs/{job['id']}")
    await page.get_by_role("button", name="Cancel", exact=True).click()
    await page.get_by_role("button", name="Leave it").click()
    assert (await world.v1.job(job["id"]))["status"] == "processing"
    await page.get_by_role("button", name="Cancel", exact=True).click()
    await page.get_by_role("button", name="Cancel the job").click()
    await expect(page.locator(".title .status")).to_have_text("cancelled")

    await page.get_by_role("button", name="Retry").click()
    await expect(page.get_by_text("retry of", exact=True)).to_be_visible()
    new = page.url.rpartition("/")[2]
    assert (await world.v1.job(new))["retry_of"] == job["id"]
    await expect(page.get_by_role("heading", name="Jobs with the key")).to_be_visible()
    await expect(page.locator("section").filter(has_text="Jobs with the key").locator("tbody tr")).to_have_count(2)
    await world.v1.cancel(new)


async def test_command_of_a_job_can_be_copied(watch: Watched, world: World) -> None:
    """It is what a shell takes."""
    job = await world.v1.submit("greet", wait=20, name="Ada")
    await watch.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = await watch.open(f"#/jobs/{job['id']}")
    await page.get_by_role("button", name="Copy as curl").click()
    await expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert await page.evaluate("navigator.clipboard.readText()") == f"curl '{world.url}/v1/jobs/{job['id']}'"


async def test_job_that_is_none_says_so(watch: Watched) -> None:
    """And leads back to the list."""
    watch.expected = ("status of 404",)
    page = await watch.open("#/jobs/00000000-0000-7000-8000-000000000000")
    await expect(page.get_by_role("heading", name="There is no such job")).to_be_visible()
    await watch.accessible()
    await page.get_by_role("link", name="Show all jobs").click()
    await expect(page).to_have_url(re.compile(r"#/jobs$"))
