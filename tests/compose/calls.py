"""Callers of `/v1` of a project."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from tests.compose.project import Project
from tests.e2e.v1 import V1
from tests.eventually import eventually


@asynccontextmanager
async def calling(project: Project, kind: str) -> AsyncIterator[V1]:
    """A caller, once some job-server serves a kind."""
    async with httpx.AsyncClient(base_url=project.url, timeout=40) as http:

        async def announced() -> bool:
            kinds = (await http.get("/v1/kinds")).json()["data"]
            return any(one["name"] == kind and one["workers"] for one in kinds)

        await eventually(announced, within_s=30)
        yield V1(http)
