"""A web application that leaves the work to Hasty: it submits jobs and streams how far they are."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from tasks import report

from hasty.client import AsyncHasty, Job, NoSuchJob


class Order(BaseModel):
    """What somebody wants."""

    pages: int


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Keep one client for all requests; it finds Hasty by HASTY_URL."""
    async with AsyncHasty() as hasty:
        app.state.hasty = hasty
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/reports", status_code=202)
async def order(order: Order, request: Request) -> dict[str, str]:
    """Answer at once: from now on the report will be written, whatever crashes."""
    job = await request.app.state.hasty.submit(report, pages=order.pages)
    return {"id": job.id, "events": f"/reports/{job.id}/events"}


@app.get("/reports/{job_id}/events")
async def events(job_id: str, request: Request) -> StreamingResponse:
    """Stream how far it is, as server-sent events; the last one has the report."""
    hasty: AsyncHasty = request.app.state.hasty
    try:
        await hasty.get(job_id)
    except NoSuchJob as error:
        raise HTTPException(404, "there is no such report") from error

    async def lines() -> AsyncIterator[str]:
        async for job in hasty.events(job_id):
            yield f"data: {json.dumps(shown(job))}\n\n"

    return StreamingResponse(lines(), media_type="text/event-stream")


def shown(job: Job) -> dict[str, object]:
    """What a page needs to know of a job."""
    done = 1.0 if job.ended else job.progress.done if job.progress else 0.0
    return {"status": job.status, "done": done, "report": job.output}
