"""The job-server's settings; every one is an environment variable with the prefix `HASTY_`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Annotated, Self

from pydantic import Field, model_validator

from hasty.jobs import KIND_NAME, SLEEP, Way
from hasty.server.runtime.settings import ProcessSettings, UrlOf
from job_server.execution.child import DEFAULT_PYTHON, Start


class Settings(ProcessSettings):
    """The settings of a job-server; units are in the names."""

    bind_port: int = Field(default=9091, ge=0, le=65535, description="the port to listen on, for probes and metrics")
    job_mongo_url: Annotated[str, UrlOf(("mongodb", "mongodb+srv"))] = Field(
        default="mongodb://127.0.0.1:27017", description="the database of the job-servers"
    )
    job_sleep_min_s: float = Field(default=15, ge=0, le=10**6, description="how long a job sleeps at least")
    job_sleep_max_s: float = Field(default=45, ge=0, le=10**6, description="how long a job sleeps at most")
    job_timeout_s: float = Field(default=46, gt=0, le=10**6, description="a job that takes longer is cancelled")
    work: str | None = Field(
        default=None,
        description="the Python file or module with the handlers; without one, only jobs of POST / are done",
    )
    work_python: str | None = Field(default=None, description="the Python that runs the handlers; its own, if not set")
    work_version: str | None = Field(
        default=None, max_length=64, description="the version of the handlers; a hash of their code, if not set"
    )
    work_watch: bool = Field(default=False, description="load the handlers again when one of their files changes")
    root_kind: Annotated[str, Field(pattern=f"^{KIND_NAME.pattern}$")] = Field(
        default=SLEEP, description="the kind that does the jobs of POST /; give api-servers and job-servers the same"
    )
    async_slots: int = Field(default=100, ge=1, le=100_000, description="how many async handlers run at once")
    threads: int = Field(default=32, ge=1, le=1_000, description="how many handlers that are not async run at once")
    processes: int = Field(
        default_factory=lambda: os.cpu_count() or 1,
        ge=1,
        le=1_000,
        description="how many commands and handlers with process=True run at once; as many as processors, if not set",
    )
    job_concurrency: int = Field(default=1000, ge=1, le=1_000_000, description="how many jobs run at once")

    def start(self) -> Start | None:
        """How children with handlers are started; None when there are none."""
        if self.work is None:
            return None
        places = {Way.ASYNC: self.async_slots, Way.THREAD: self.threads, Way.PROCESS: self.processes}
        return Start(self.work, self.work_python or DEFAULT_PYTHON, self.work_version, places)

    @model_validator(mode="after")
    def _sleeps_in_order(self) -> Self:
        if self.job_sleep_max_s < self.job_sleep_min_s:
            message = (
                f"HASTY_JOB_SLEEP_MAX_S is {self.job_sleep_max_s:g}: it must not be below HASTY_JOB_SLEEP_MIN_S,"
                f" which is {self.job_sleep_min_s:g}"
            )
            raise ValueError(message)
        return self

    def warnings(self) -> Iterator[str]:
        """What is valid, but hardly intended."""
        if self.job_timeout_s <= self.job_sleep_min_s:
            yield (
                f"HASTY_JOB_TIMEOUT_S is {self.job_timeout_s:g}: it should be above HASTY_JOB_SLEEP_MIN_S, which is"
                f" {self.job_sleep_min_s:g}, or every job is cancelled"
            )
