"""The dashboard in containers: there, and for reading only."""

import httpx

from tests.compose.project import Project


async def test_dashboard_is_served_and_may_only_read(project: Project) -> None:
    """Unless HASTY_UI says otherwise: whoever reaches the port could act."""
    async with httpx.AsyncClient(base_url=project.url) as http:
        for path in ("/ui/", "/ui/app.js", "/ui/vendor/lit-html/lit-html.js"):
            assert (await http.get(path)).status_code == 200, path
        assert (await http.get("/v1/overview")).json()["ui"] == "read"
        own = {"sec-fetch-site": "same-origin", "content-type": "application/json"}
        refused = await http.post("/v1/jobs", headers=own, json={"kind": "sleep", "input": {"object_id": "page"}})
        assert refused.json()["type"] == "urn:hasty:problem:read-only"
