"""The limit: the application that answers every job with 201 and an id, and does nothing else.

Not even the body is read: of several ways to write it this was the fastest, and so the hardest to stand beside.
It takes the place of `python -m api_server` behind the same nginx, one process, with the same loop, parser and
keep-alive, so that the difference between the two is the price of keeping the promise and of nothing else.
"""

import os
from uuid import uuid4

import uvicorn
from fastapi import FastAPI


def make_app() -> FastAPI:
    """The application, with the two probes that the local stack waits for."""
    app = FastAPI(openapi_url=None)

    @app.post("/", status_code=201)
    async def submit() -> dict[str, dict[str, str]]:
        return {"message": {"job_id": str(uuid4())}}

    @app.get("/healthz")
    @app.get("/readyz")
    async def ready() -> dict[str, str]:
        return {"status": "ready"}

    return app


if __name__ == "__main__":
    uvicorn.run(
        make_app(),
        host=os.environ.get("HASTY_BIND_HOST", "127.0.0.1"),
        port=int(os.environ.get("HASTY_BIND_PORT", "9090")),
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
        timeout_keep_alive=75,
    )
