"""The job-server's settings; every one is an environment variable with the prefix `HASTY_`."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from runtime.settings import ProcessSettings, UrlOf


class Settings(ProcessSettings):
    """What the job-server can be told; units are in the names."""

    bind_port: int = Field(default=9091, ge=0, le=65535)
    job_mongo_url: Annotated[str, UrlOf(("mongodb", "mongodb+srv"))] = "mongodb://127.0.0.1:27017"
    job_sleep_min_s: float = Field(default=15, ge=0, le=10**6)
    job_sleep_max_s: float = Field(default=45, ge=0, le=10**6)
    job_timeout_s: float = Field(default=46, gt=0, le=10**6)
    """How long the whole work of a job may take; longer work is cancelled."""
    job_concurrency: int = Field(default=1000, ge=1, le=1_000_000)
    """How many jobs one process runs at once."""

    @model_validator(mode="after")
    def _sleeps_in_order(self) -> Self:
        if self.job_sleep_max_s < self.job_sleep_min_s:
            message = (
                f"HASTY_JOB_SLEEP_MAX_S is {self.job_sleep_max_s:g}: it must not be below HASTY_JOB_SLEEP_MIN_S,"
                f" which is {self.job_sleep_min_s:g}"
            )
            raise ValueError(message)
        return self
