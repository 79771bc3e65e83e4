"""A campaign: many connections at once against one port, and what they leave behind in the services."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final

import httpx
import psutil

from hasty.server.local_stack import Child, Stack
from tests.e2e.stacks import metric, services
from tests.eventually import eventually
from tests.fuzz.conversation import Violation, hold, plan
from tests.fuzz.messages import Jobs

CONNECTIONS: Final = 12
QUICK_JOBS: Final = {"HASTY_JOB_SLEEP_MIN_S": "0.1", "HASTY_JOB_SLEEP_MAX_S": "0.2"}
WARM_UP_S: Final = 4.0
SHOWN_BYTES: Final = 4_000

RSS_SLACK: Final = 24 * 2**20
"""What a service may have grown by since the warm-up: pages that its allocator keeps."""

KEPT_CONNECTIONS: Final = 2 * CONNECTIONS
"""nginx keeps connections to the api-server, as many as there were requests at once."""

TASKS_SLACK: Final = 2


@dataclass
class Report:
    """What a campaign saw; `violations` is empty when all is well."""

    conversations: int = 0
    answers: int = 0
    jobs: int = 0
    violations: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"{self.conversations} connections, {self.answers} answers, {self.jobs} jobs"]
        return "\n".join([*lines, *self.violations])


@dataclass(frozen=True)
class Usage:
    """What a process holds: bytes of memory, descriptors, asyncio tasks."""

    rss: int
    descriptors: int
    tasks: float


async def run(stack: Stack, port: int, *, seed: int, seconds: float, proxied: bool) -> Report:
    """Fuzz a port of a stack for so many seconds, and judge what is left when it is idle again."""
    watched = [child for role in ("api-server", "job-server") for child in services(stack, role)]
    jobs = Jobs(f"{seed}-{int(time.time())}")
    async with httpx.AsyncClient() as ports:
        await _fuzz(port, jobs, seed=seed, first=0, seconds=min(WARM_UP_S, seconds / 3), proxied=proxied)
        await eventually(lambda: _is_idle(ports, watched), within_s=120, every_s=0.2)
        before = {child.name: await _usage(ports, child) for child in watched}
        report = await _fuzz(port, jobs, seed=seed, first=1_000_000, seconds=seconds, proxied=proxied)
        await eventually(lambda: _is_idle(ports, watched), within_s=120, every_s=0.2)
        report.violations += await _not_released(ports, watched, before)
        report.violations += await _wrong_jobs(ports, stack, jobs)
    report.jobs = len(jobs.objects)
    return report


async def _fuzz(port: int, jobs: Jobs, *, seed: int, first: int, seconds: float, proxied: bool) -> Report:
    report = Report()
    until = time.monotonic() + seconds

    async def converse(worker: int) -> None:
        number = first
        while time.monotonic() < until and len(report.violations) < 10:
            conversation = plan(Random(f"{seed}/{worker}/{number}"), jobs)
            try:
                report.answers += await hold(conversation, port, jobs, proxied=proxied)
            except Violation as violation:
                sent = [piece for piece, _ in conversation.pieces]
                report.violations.append(
                    f"connection {worker}/{number} of seed {seed} ({conversation.end.value}): {violation}\n"
                    f"  {len(conversation.valid)} valid requests, sent: {str(sent)[:SHOWN_BYTES]}"
                )
            number += 1
            report.conversations += 1

    async with asyncio.TaskGroup() as group:
        for worker in range(CONNECTIONS):
            group.create_task(converse(worker), name=f"connection {worker}")
    return report


async def _is_idle(ports: httpx.AsyncClient, watched: Sequence[Child]) -> bool:
    """Whether every job that was made has ended."""
    accepted = sum([await metric(ports, child, "hasty_jobs_accepted_total") for child in watched])
    applied = sum([await metric(ports, child, "hasty_endings_applied_total") for child in watched])
    return accepted <= applied


async def _usage(ports: httpx.AsyncClient, child: Child) -> Usage:
    assert child.pid is not None, f"{child.name} is gone"
    process = psutil.Process(child.pid)
    tasks = await metric(ports, child, "hasty_tasks")
    return Usage(process.memory_info().rss, process.num_fds(), tasks)


async def _not_released(ports: httpx.AsyncClient, watched: Sequence[Child], before: Mapping[str, Usage]) -> list[str]:
    """Say what a service still holds a while after the last connection was closed."""
    problems: dict[str, str] = {}

    async def all_is_released() -> bool:
        problems.clear()
        for child in watched:
            was, now = before[child.name], await _usage(ports, child)
            if now.rss > was.rss + RSS_SLACK:
                problems[f"{child.name} memory"] = f"{was.rss >> 20} MB, then {now.rss >> 20} MB"
            if now.descriptors > was.descriptors + KEPT_CONNECTIONS:
                problems[f"{child.name} descriptors"] = f"{was.descriptors}, then {now.descriptors}"
            if now.tasks > was.tasks + TASKS_SLACK:
                problems[f"{child.name} tasks"] = f"{was.tasks:g}, then {now.tasks:g}"
        return not problems

    try:
        await eventually(all_is_released, within_s=30, every_s=0.5)
    except AssertionError:
        return [f"{what}: {values}" for what, values in problems.items()]
    return []


async def _wrong_jobs(ports: httpx.AsyncClient, stack: Stack, jobs: Jobs) -> list[str]:
    """Ask for some of the jobs that were made, one by one, and say which are not their objects'."""
    wrong = []
    for job_id in Random(0).sample(sorted(jobs.objects), min(300, len(jobs.objects))):
        answer = await ports.get(f"{stack.url}/{job_id}")
        shown = answer.json()["message"]
        if answer.status_code != 200 or shown["object_id"] != jobs.objects[job_id]:
            wrong.append(f"job {job_id} was made for {jobs.objects[job_id]}, and is {answer.status_code} {shown}")
    return wrong
