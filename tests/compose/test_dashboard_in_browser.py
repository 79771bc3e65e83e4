"""The dashboard of the containers in a real browser: through nginx, for reading only, while containers come and go."""

import re
from collections.abc import AsyncIterator, Mapping

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Locator, Page, expect

from tests.browser.browser import PAGES, WIDTHS, Watched, launched, watched
from tests.compose.calls import calling
from tests.compose.project import Project, command
from tests.e2e.v1 import V1
from tests.eventually import eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")

MALFORMED = "<script>document.title = 'taken'</script>"
"""A message about a job that ended, of which no api-server can make anything."""
LONG_S = 600
NOTE_SILENCE = """(worker) => {
  globalThis.said = [];
  const isIt = (one) => one.querySelector("h3").textContent === worker;
  const note = () => said.push([...document.querySelectorAll(".worker.silent")].find(isIt)?.innerText);
  new MutationObserver(note).observe(document, { childList: true, characterData: true, subtree: true });
}"""
"""Others may be silent as well: those that a test before this one has killed."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """The browser."""
    async with launched() as one:
        yield one


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def hasty(project: Project) -> AsyncIterator[V1]:
    """A caller, once the kinds are known."""
    async with calling(project, "nap") as caller:
        yield caller


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def jobs(project: Project, hasty: V1) -> AsyncIterator[Mapping[str, str]]:
    """Jobs by what has become of them, and a dead letter; afterwards, none of them runs, and the letter is gone."""
    made = {
        "finished": await hasty.submit("greet", wait=30, name="Ada"),
        "failed": await hasty.submit("divide", wait=30, amount=1, by=0),
        "running": await hasty.running((await hasty.submit("nap", seconds=LONG_S))["id"]),
    }
    try:
        await project.ask_inside("job-server", "publish.py", "HASTY_NATS_URL_FILE", "job:finished", MALFORMED)

        async def is_dead() -> bool:
            return bool((await hasty.http.get("/v1/dead-letters")).json()["data"])

        await eventually(is_dead, within_s=30)
        yield {state: job["id"] for state, job in made.items()}
    finally:
        await project.ask_inside("api-server", "remove_letters.py", MALFORMED)
        await stopped(hasty, made["running"]["id"])


@pytest_asyncio.fixture(scope="module", loop_scope="session", autouse=True)
async def left_healthy(project: Project) -> AsyncIterator[None]:
    """As the tests of other files expect it; those here need not wait for it one by one."""
    yield
    await project.healthy()


async def stopped(hasty: V1, job_id: str) -> None:
    """Cancel a job that runs, and wait for it."""
    await hasty.cancel(job_id)
    await hasty.ended(job_id)


@pytest.mark.parametrize("width", WIDTHS)
async def test_every_page_works_in_containers(
    browser: Browser, project: Project, jobs: Mapping[str, str], width: int
) -> None:
    """None breaks nginx's policy, asks another host, logs an error, is wider than the window or hard to read."""
    pages = {
        **PAGES,
        "a job that finished": (f"#/jobs/{jobs['finished']}", "main pre:has-text('hello Ada')"),
        "a job that failed": (
            f"#/jobs/{jobs['failed']}",
            ".card.bad pre:has-text('Traceback (most recent call last)')",
        ),
        "a job that runs": (f"#/jobs/{jobs['running']}", ".timeline i.running"),
    }
    async with watched(browser, project.url, width=width) as watch:
        page = await watch.open()
        for name, (path, shows) in pages.items():
            await page.goto(f"{project.url}/ui/{path}")
            await page.locator(shows).first.wait_for()
            await watch.fits()
            await watch.accessible()
            assert not watch.faults, (name, watch.faults)


async def test_browser_may_only_read_and_is_told_so(
    browser: Browser, project: Project, hasty: V1, jobs: Mapping[str, str]
) -> None:
    """No button acts, and neither does what is sent without one."""
    async with watched(browser, project.url) as watch:
        page = await watch.open()
        for path, shows in (
            (f"#/jobs/{jobs['running']}", ".timeline i.running"),
            (f"#/jobs/{jobs['failed']}", ".card.bad pre"),
            ("#/jobs", "table.jobs tbody tr"),
        ):
            await page.goto(f"{project.url}/ui/{path}")
            await page.locator(shows).first.wait_for()
            await expect(page.get_by_text("read only", exact=True)).to_be_visible()
            await expect(page.get_by_text("Browsers may only read here")).to_be_visible()
            await expect(page.get_by_role("button", name=re.compile("^(Cancel|Retry)"))).to_have_count(0)
            await expect(page.get_by_role("checkbox")).to_have_count(0)
        watch.expected = ("status of 403",)
        for what in (f"{jobs['running']}/cancel", f"{jobs['failed']}/retry"):
            refused = await page.evaluate(
                """async (what) => (await fetch(`/v1/jobs/${what}`, {
                  method: "POST", headers: {"content-type": "application/json"},
                })).json()""",
                what,
            )
            assert refused["type"] == "urn:hasty:problem:read-only"
    await hasty.running(jobs["running"])


@pytest.mark.usefixtures("jobs")
async def test_posted_job_shows_on_pages_that_are_open(browser: Browser, project: Project, hasty: V1) -> None:
    """In a count, behind a pill, and on its own page until its outcome."""
    async with watched(browser, project.url) as watch:
        overview = await watch.open()
        before = await in_flight(hasty)
        await expect(figure(overview)).to_have_text(shown(before))
        listed = await tab(watch, "#/jobs", "table.jobs tbody tr")

        job = await hasty.submit("nap", seconds=LONG_S)
        try:
            await expect(figure(overview)).to_have_text(shown(before + 1))
            await expect(listed.locator(".pill")).to_have_text("1 new job: show")
            await listed.locator(".pill").click()
            await listed.locator("tbody tr a").first.click()
            await expect(listed.locator("h1")).to_contain_text(job["id"])
            await expect(listed.locator(".title .status")).to_have_text("running")
        finally:
            await stopped(hasty, job["id"])
        await expect(listed.locator(".title .status")).to_have_text("cancelled")
        await expect(figure(overview)).to_have_text(shown(before))
        assert await are_same(overview, listed)


async def test_killed_job_server_shows_and_its_job_goes_on(browser: Browser, project: Project, hasty: V1) -> None:
    """Its silence grows until its job begins elsewhere; it is heard again after its start."""
    job = await hasty.running((await hasty.submit("stuck"))["id"])
    worker = job["worker"]
    [victim] = [one for one in await project.containers("job-server") if worker.startswith(one[:12])]
    async with watched(browser, project.url) as watch:
        page = await watch.open(f"#/jobs/{job['id']}")
        await expect(page.locator(".why-now")).to_contain_text(worker)
        workers = await tab(watch, "#/workers", ".workers li")
        await expect(workers.locator(".worker:not(.silent)")).to_have_count(3)
        await workers.evaluate(NOTE_SILENCE, worker)
        try:
            await command("docker", "kill", victim)
            silent = workers.locator(".worker.silent").filter(has_text=worker)
            await expect(silent).to_contain_text("elsewhere now")
            await expect(page.locator(".title .status")).to_have_text("finished")
            await expect(page.locator("main pre").filter(has_text=re.compile("^2$"))).to_be_visible()
            await expect(page.locator(".facts")).not_to_contain_text(worker)
            await eventually(lambda: has_grown(workers))
        finally:
            await command("docker", "start", victim)
        await expect(workers.locator(".worker:not(.silent)")).to_have_count(3)
        assert await are_same(page, workers)


async def has_grown(workers: Page) -> bool:
    """Whether a worker's silence was shown to grow; the time until its job begins elsewhere only falls meanwhile."""
    said = await workers.evaluate("said.join('\\n')")
    found = re.findall(r"silent for (\d+(?:\.\d+)?) s: its \d+ jobs? begins? elsewhere (?:in (\d+)|now)", said)
    silences = [float(seconds) for seconds, _ in found]
    left = [int(seconds or 0) for _, seconds in found]
    assert silences == sorted(silences)
    assert left == sorted(left, reverse=True)
    return silences[0] < silences[-1]


@pytest.mark.parametrize("service", ["nginx", "api-server"])
async def test_page_is_old_while_containers_are_away(
    browser: Browser, project: Project, hasty: V1, service: str
) -> None:
    """It says so, for how long, and is right again by itself."""
    victims = await project.containers(service)
    async with watched(browser, project.url) as watch:
        watch.expected = ("Failed to load resource",)
        page = await watch.open()
        before = await in_flight(hasty)
        await expect(figure(page)).to_have_text(shown(before))
        await mark(page)
        await command("docker", "kill", *victims)
        try:
            await expect(page.locator(".live.stale")).to_contain_text(re.compile(r"no updates for \d"))
            await expect(page.locator(".notice.bad")).to_contain_text("what is shown is that old")
            await expect(page.locator("main.stale")).to_be_visible()
            await watch.accessible()
        finally:
            await command("docker", "start", *victims)
        await expect(page.locator(".live.on")).to_be_visible()
        await expect(page.locator(".notice.bad, main.stale")).to_have_count(0)
        job = await hasty.submit("nap", seconds=LONG_S)
        try:
            await expect(figure(page)).to_have_text(shown(before + 1))
        finally:
            await stopped(hasty, job["id"])
        assert await are_same(page)


def figure(overview: Page) -> Locator:
    """How many jobs the overview says are in flight."""
    return overview.locator(".figures div").filter(has_text="in flight").locator("dd")


def shown(jobs: int) -> re.Pattern[str]:
    """This figure as it is shown, with its note behind it."""
    return re.compile(rf"^{jobs:,}\D")


async def in_flight(hasty: V1) -> int:
    """The same as the api-servers tell it."""
    unfinished: int = (await hasty.http.get("/v1/overview")).json()["unfinished"]
    return unfinished


async def tab(watch: Watched, path: str, shows: str) -> Page:
    """Another page beside the first, once it shows something; from now on, no page may be reloaded."""
    page = await watch.page.context.new_page()
    await page.goto(f"{watch.url}/ui/{path}")
    await page.locator(shows).first.wait_for()
    await mark(*page.context.pages)
    return page


async def mark(*pages: Page) -> None:
    """Leave something in pages that is gone when they are loaded again."""
    for page in pages:
        await page.evaluate("globalThis.marked = true")


async def are_same(*pages: Page) -> bool:
    """Whether none of these pages was loaded again since it was marked."""
    return all([await page.evaluate("globalThis.marked === true") for page in pages])
