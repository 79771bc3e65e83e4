"""The page of dead letters: what is on it when there are some, and when there are none."""

import pytest
from playwright.async_api import Browser, expect

from tests.browser.browser import WIDTHS, watched
from tests.browser.conftest import MALFORMED, World
from tests.browser.test_pages import judged

pytestmark = [pytest.mark.own_stack, pytest.mark.asyncio(loop_scope="session")]


@pytest.mark.parametrize("width", WIDTHS)
async def test_letters_show_reason_and_beginning(browser: Browser, world: World, width: int) -> None:
    """Newest first, as text whatever it is; also when all of them are unfolded."""
    async with watched(browser, world.url, width=width) as watch:
        page = await watch.open("#/dead-letters")
        letters = page.locator(".letters li")
        await expect(letters).to_have_count(len(MALFORMED))
        for n in range(len(MALFORMED)):
            letter = letters.nth(n)
            await expect(letter.get_by_role("heading")).not_to_be_empty()
            await expect(letter).to_contain_text("job:finished")
            if await letter.locator("summary").count():
                await letter.locator("summary").click()
        await expect(letters.nth(0).locator("pre")).to_contain_text('"exploded"')
        await expect(letters.nth(1).locator("pre")).to_have_text("x" * 1_000)
        await expect(letters.nth(1)).to_contain_text("The first 1,000 of 5,000 bytes")
        await expect(letters.nth(2).locator("pre")).to_have_text(MALFORMED[2].decode())
        await expect(letters.nth(3).locator("pre")).to_contain_text("garbage")
        await expect(letters.nth(4)).to_contain_text("The message is empty.")
        await expect(page).to_have_title("Dead letters · Hasty")
        await judged(watch)


@pytest.mark.parametrize("width", WIDTHS)
async def test_page_without_letters_says_so(browser: Browser, quiet: World, width: int) -> None:
    """There is nothing to do then."""
    async with watched(browser, quiet.url, width=width) as watch:
        page = await watch.open("#/dead-letters")
        await expect(page.get_by_role("heading", name="No dead letters")).to_be_visible()
        await judged(watch)
