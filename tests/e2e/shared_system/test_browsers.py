"""Requests as browsers send them, through nginx to real services."""

import json
from urllib.parse import urlsplit

import httpx
import pytest

from tests.e2e.client import Hasty
from tests.e2e.stacks import System

pytestmark = pytest.mark.asyncio(loop_scope="session")

FOREIGN = {"sec-fetch-site": "cross-site", "origin": "http://evil.example"}
NOBODY = "00000000-0000-7000-8000-000000000000"


async def test_foreign_page_can_neither_cancel_nor_read(system: System, hasty: Hasty) -> None:
    """Nor make a job by a form."""
    job_id = await hasty.create("browsers foreign")
    async with httpx.AsyncClient(base_url=system.url) as http:
        answers = [
            await http.get("/v1/jobs", headers=FOREIGN),
            await http.get(f"/v1/jobs/{job_id}", headers={**FOREIGN, "accept": "text/event-stream"}),
            await http.post(f"/v1/jobs/{job_id}/cancel", headers=FOREIGN),
            await http.post("/v1/batches", headers=FOREIGN, content=b'{"jobs": []}'),
            await http.options(
                f"/v1/jobs/{job_id}/cancel", headers={**FOREIGN, "access-control-request-method": "POST"}
            ),
        ]
        form = await http.post(
            "/", content=json.dumps({"object_id": "form"}), headers={**FOREIGN, "content-type": "text/plain"}
        )
    assert [answer.json()["type"] for answer in answers] == ["urn:hasty:problem:foreign-origin"] * len(answers)
    assert {answer.status_code for answer in (*answers, form)} == {403}
    assert "object_id" not in form.text
    assert not [name for answer in (*answers, form) for name in answer.headers if name.startswith("access-control-")]
    assert (await hasty.finished([job_id]))[0]["status"] == "finished"


@pytest.mark.own_stack
async def test_page_of_this_origin_acts_on_a_loopback_stack(system: System) -> None:
    """With and without Sec-Fetch-Site; under a name of another's making it gets nothing."""
    host = urlsplit(system.url).netloc
    async with httpx.AsyncClient(base_url=system.url) as http:
        for own in ({"sec-fetch-site": "same-origin"}, {"origin": f"http://{host}"}):
            cancelled = await http.post(
                f"/v1/jobs/{NOBODY}/cancel", headers={**own, "content-type": "application/json"}
            )
            assert cancelled.json()["type"] == "urn:hasty:problem:no-such-job"
        rebound = {"host": f"evil.example:{urlsplit(system.url).port}", "user-agent": "Mozilla/5.0"}
        assert (await http.get("/v1/jobs", headers=rebound)).status_code == 403
        assert (await http.get("/v1/overview")).json()["ui"] == "act"
