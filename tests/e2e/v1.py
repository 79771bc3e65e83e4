"""A caller of `/v1`: HTTP through nginx and nothing else."""

import asyncio
from dataclasses import dataclass
from typing import Any

import httpx

from tests.eventually import eventually


@dataclass(frozen=True)
class V1:
    """What a caller can do with jobs of kinds."""

    http: httpx.AsyncClient

    async def submit(self, kind: str, *, wait: int | None = None, **values: Any) -> dict[str, Any]:
        """Post a job that must be accepted."""
        response = await self.ask(kind, wait=wait, input=values)
        assert response.status_code == 201, response.text
        job: dict[str, Any] = response.json()
        return job

    async def ask(self, kind: str, *, wait: int | None = None, **body: Any) -> httpx.Response:
        """Post a job, whatever comes of it."""
        params = {} if wait is None else {"wait": wait}
        return await self.http.post("/v1/jobs", json={"kind": kind, **body}, params=params)

    async def job(self, job_id: str, *, wait: int | None = None) -> dict[str, Any]:
        """A job that must exist."""
        params = {} if wait is None else {"wait": wait}
        response = await self.http.get(f"/v1/jobs/{job_id}", params=params)
        assert response.status_code == 200, response.text
        job: dict[str, Any] = response.json()
        return job

    async def ended(self, job_id: str, *, within_s: float = 60) -> dict[str, Any]:
        """A job, once it has ended."""
        async with asyncio.timeout(within_s):
            while True:
                job = await self.job(job_id, wait=10)
                if job["status"] != "processing":
                    return job

    async def running(self, job_id: str) -> dict[str, Any]:
        """A job, once it is told to be running."""

        async def runs() -> dict[str, Any]:
            job = await self.job(job_id)
            return job if job["phase"] == "running" else {}

        found: dict[str, Any] = await eventually(runs, within_s=20)
        return found

    async def cancel(self, job_id: str) -> httpx.Response:
        """Ask for a job to be cancelled."""
        return await self.http.post(f"/v1/jobs/{job_id}/cancel")
