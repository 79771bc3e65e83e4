"""The api-server's settings; every one is an environment variable with the prefix `HASTY_`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from runtime.settings import ProcessSettings, UrlOf


class Settings(ProcessSettings):
    """What the api-server can be told; units are in the names."""

    bind_port: int = Field(default=9090, ge=0, le=65535)
    api_mongo_url: Annotated[str, UrlOf(("mongodb", "mongodb+srv"))] = "mongodb://127.0.0.1:27017"
    nats_setup_url: Annotated[str, UrlOf(("nats", "tls", "ws", "wss"), several=True)] | None = None
    """The broker with a user who may make the stream and its consumers; `nats_url` when not given."""
    cooldown_s: float = Field(default=300, ge=0, le=10**9)
    """How long after its creation an object's job keeps the next one out."""
    overdue_s: float = Field(default=180, gt=0, le=10**9)
    """How long after its dispatch a job without news is dispatched again."""
    linger_s: float = Field(default=0, ge=0, le=60)
    """How long a stopping process refuses new callers at least; a proxy that finds it by name then goes elsewhere."""
