"""The list of jobs: search, filters, new rows, acting on many, and ten thousand of them."""

import asyncio
import re

import pytest
from playwright.async_api import Page, expect

from tests.browser.browser import Watched
from tests.browser.conftest import World

pytestmark = [pytest.mark.own_stack, pytest.mark.asyncio(loop_scope="session")]

MANY = 10_000
BATCH = 1_000


async def shown(page: Page) -> list[str]:
    """The ids of the rows that are shown, in their order."""
    found: list[str] = await page.locator("tr[data-href]").evaluate_all(
        "all => all.map((one) => one.dataset.href.split('/').at(-1))"
    )
    return found


async def made(world: World, count: int, label: str, *, delay_s: float = 3600) -> list[str]:
    """Make jobs of a label, which wait; their ids, the newest first."""
    ids = []
    for _ in range(count):
        response = await world.v1.ask("greet", input={"name": "x"}, delay_s=delay_s, labels=[label])
        ids.append(response.json()["id"])
        # A list is ordered by milliseconds.
        await asyncio.sleep(0.002)
    return ids[::-1]


async def test_new_jobs_wait_behind_a_pill(watch: Watched, world: World) -> None:
    """The rows that are shown do not move until the person wants it."""
    old = await made(world, 3, "pill")
    page = await watch.open("#/jobs?label=pill")
    await expect(page.locator("tr[data-href]")).to_have_count(3)
    new = await made(world, 2, "pill")
    await expect(page.locator(".pill")).to_have_text("2 new jobs: show")
    assert await shown(page) == old
    await page.locator(".pill").click()
    await expect(page.locator("tr[data-href]")).to_have_count(5)
    assert await shown(page) == new + old


async def test_filters_are_in_the_address(watch: Watched, world: World) -> None:
    """A reload and another tab show the same."""
    await made(world, 1, "filtered")
    page = await watch.open("#/jobs")
    await page.get_by_label("Kind").select_option("greet")
    await page.get_by_label("Status").select_option("processing")
    await page.get_by_label("Created in the last").select_option("1h")
    await page.get_by_label("Label").fill("filtered")
    await page.keyboard.press("Enter")
    await expect(page).to_have_url(re.compile(r"kind=greet&status=processing&age=1h&label=filtered$"))
    await expect(page.locator("tr[data-href]")).to_have_count(1)
    await page.reload()
    await expect(page.locator("tr[data-href]")).to_have_count(1)
    assert await page.get_by_label("Status").input_value() == "processing"
    await page.get_by_role("link", name="Clear").click()
    await expect(page).to_have_url(re.compile(r"#/jobs$"))


async def test_search_box_finds_an_id_and_a_key(watch: Watched, world: World) -> None:
    """One box for both."""
    job = await world.v1.submit("resize", wait=20, url="searched for", seconds=0.1)
    page = await watch.open("#/jobs")
    await page.locator("#search").fill("searched for")
    await page.keyboard.press("Enter")
    await expect(page.locator("tr[data-href]")).to_have_count(1)
    assert await shown(page) == [job["id"]]
    await page.locator("#search").fill(job["id"])
    await page.keyboard.press("Enter")
    await expect(page.locator("h1")).to_contain_text(job["id"])


async def test_search_box_finds_the_end_of_an_id(watch: Watched, world: World) -> None:
    """As the page shows it, or as typed, unless it is a key; it is said how far was looked for what is neither."""
    job = await world.v1.submit("greet", wait=20, name="by the end of its id")
    page = await watch.open("#/jobs")
    row = page.locator(f"tr[data-href$='{job['id']}'] a").first
    end = (await row.inner_text()).strip()
    assert end == f"…{job['id'][-12:]}"
    for text in (end, job["id"][-8:], job["id"][-20:].upper()):
        await page.goto(f"{world.url}/ui/#/jobs")
        await searched(page, text)
        await expect(page.locator("h1")).to_contain_text(job["id"])

    await page.goto(f"{world.url}/ui/#/jobs")
    await searched(page, "…fedcba987654")
    await expect(page.locator(".notice")).to_contain_text(re.compile(r"none has an id with fedcba987654"))
    await expect(page.locator(".notice")).to_contain_text(re.compile(r"of (all [\d,]+ jobs|the newest 1,000 jobs)"))
    await watch.accessible()
    key = "fedcba987654"
    keyed = await world.v1.submit("resize", wait=20, url=key, seconds=0.1)
    await searched(page, key)
    await expect(page).to_have_url(re.compile(f"key={key}$"))
    await expect(page.locator("tr[data-href]")).to_have_count(1)
    assert await shown(page) == [keyed["id"]]


async def test_search_names_the_jobs_that_may_be_meant(watch: Watched, world: World) -> None:
    """Where several ids begin alike, as those of one second do."""
    ids = await made(world, 3, "alike")
    alike = ids[0][:6]
    page = await watch.open("#/jobs")
    await searched(page, alike)
    await expect(page.locator(".notice li a").first).to_have_text(re.compile(f"^{alike}"))
    await expect(page.locator(".notice")).to_contain_text(re.compile(rf"{alike} may be [\d,]+ jobs"))
    await page.locator(".notice li a", has_text=ids[1]).click()
    await expect(page.locator("h1")).to_contain_text(ids[1])


async def searched(page: Page, text: str) -> None:
    """Type it into the search box."""
    await page.locator("#search").fill(text)
    await page.keyboard.press("Enter")


async def test_keyboard_alone_reads_the_list(watch: Watched, world: World) -> None:
    """Down, up, open, back, search, help."""
    ids = await made(world, 3, "keys")
    page = await watch.open("#/jobs?label=keys")
    await expect(page.locator("tr[data-href]")).to_have_count(3)
    for key in "jjk":
        await page.keyboard.press(key)
    await page.keyboard.press("Enter")
    await expect(page.locator("h1")).to_contain_text(ids[0])
    await page.keyboard.press("Escape")
    await expect(page).to_have_url(re.compile(r"#/jobs\?label=keys$"))
    await page.keyboard.press("/")
    await expect(page.locator("#search")).to_be_focused()
    await page.keyboard.press("Escape")
    await expect(page.locator("#search")).not_to_be_focused()
    await page.keyboard.press("?")
    await expect(page.locator("#help")).to_be_visible()
    await watch.accessible()
    await page.keyboard.press("Escape")
    await expect(page.locator("#help")).to_be_hidden()


async def test_many_are_cancelled_and_retried_by_a_typed_count(watch: Watched, world: World) -> None:
    """Not before the right number is typed."""
    ids = await made(world, 3, "bulk")
    page = await watch.open("#/jobs?label=bulk")
    await expect(page.locator("tr[data-href]")).to_have_count(3)
    await page.get_by_label("Select all shown").check()
    await page.get_by_role("button", name="Cancel 3").click()
    act = page.locator("#confirm button.act")
    await expect(act).to_be_disabled()
    await watch.accessible()
    await page.locator("#confirm input").fill("3")
    await act.click()
    await expect(page.locator(".bar")).to_contain_text("3 of 3 jobs asked to stop")
    for job_id in ids:
        assert (await world.v1.ended(job_id))["status"] == "cancelled"
    await expect(page.locator("tr[data-href] .status.cancelled")).to_have_count(3)

    await page.get_by_role("button", name="Close").last.click()
    await page.get_by_label("Select all shown").check()
    await page.get_by_role("button", name="Retry 3").click()
    await page.locator("#confirm input").fill("3")
    await act.click()
    await expect(page.locator(".bar")).to_contain_text("3 of 3 jobs posted again")
    again = await world.v1.http.get("/v1/jobs", params={"label": "bulk"})
    assert sorted(job["retry_of"] for job in again.json()["data"] if job["retry_of"]) == sorted(ids)


async def test_ten_thousand_jobs_are_read_page_by_page(watch: Watched, world: World) -> None:
    """The newest at once, and older ones when asked for."""
    # Storing so many at once, a database on a busy machine may refuse a reading, which the page repeats.
    watch.expected = ("status of 503",)
    one = {"kind": "greet", "input": {"name": "x"}, "delay_s": 86_400, "labels": ["many"]}
    ids: set[str] = set()
    for _ in range(MANY // BATCH):
        response = await world.v1.http.post("/v1/batches", json={"jobs": [one] * BATCH})
        ids |= {result["job"]["id"] for result in response.json()["results"]}
    assert len(ids) == MANY
    page = await watch.open("#/jobs?label=many")
    await expect(page.locator("tr[data-href]")).to_have_count(50)
    for count in (100, 150):
        await page.get_by_role("button", name="Older jobs").click()
        await expect(page.locator("tr[data-href]")).to_have_count(count)
    listed = await shown(page)
    assert len(set(listed)) == 150
    assert set(listed) <= ids
    await page.goto(f"{world.url}/ui/#/")
    await expect(page.locator(".figures")).to_contain_text("10,000+")
