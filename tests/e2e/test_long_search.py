"""`hasty list` where few of many jobs match: it says how far it has come, and Ctrl-C shows what was found."""

import json
from pathlib import Path

from tests.e2e.command import Command, environment
from tests.eventually import eventually
from tests.unit.client.scripted import job
from tests.unit.client.test_shells import http, serving

PAGES = 100_000
"""More than anybody reads in the time of this test."""


async def test_long_search_tells_how_far_it_has_come(tmp_path: Path) -> None:
    """On a terminal; what was found before Ctrl-C is shown."""
    first = {"data": [job(kind="rare")], "next": "a", "searched_back_to": "2026-01-02T03:04:05.678Z"}
    answers = [http(200, json.dumps(first).encode())]
    answers += [http(200, json.dumps({**first, "data": []}).encode())] * PAGES
    async with serving(answers) as server:
        hasty = Command(environment(server.url, tmp_path))
        async with hasty.on_terminal("list", "--label", "rare") as terminal:
            await eventually(lambda: "searched back to 2026-01-02T03:04:05.678Z, continuing" in terminal.shown)
            terminal.press_ctrl_c()
    assert "rare" in terminal.shown
    assert "the search ended early: searched back to 2026-01-02T03:04:05.678Z" in terminal.shown
    assert terminal.process.returncode == 130
