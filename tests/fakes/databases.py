"""Fakes of both databases, as `tests/store` proves. Their failures can be asked for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from api_server.domain import Claimed, JobRecord, Lease, PastTurn, Run
from api_server.store.jobs import NOTHING_SCHEDULED
from api_server.store.leases import CLOCK_SLACK
from hasty.jobs import ATTEMPTS_KEPT, DeadLetter, Ending, Job, Report, Status, Task, can_move
from hasty.server.mongo import ServerTime, StoreUnavailable
from tests.fakes.fate import Fate


class FakeDatabase:
    """What both fake databases have: they may be away, and an answer may get lost.

    `up` may be set to False and back; `fate` decides about each call, by the name of the method.
    """

    def __init__(self) -> None:
        self.up = True
        self.fate: Callable[[str], Fate] = lambda _: Fate.STORED
        self.dead: dict[str, DeadLetter] = {}

    async def before(self, method: str) -> Fate:
        """Decide what becomes of a call."""
        # A command is a journey: others go on meanwhile, and may be there first.
        await asyncio.sleep(0)
        fate = self.fate(method)
        if not self.up or fate is Fate.LOST:
            raise StoreUnavailable("the fake is down")
        return fate

    def after(self, fate: Fate) -> None:
        """Lose the answer, where that is the call's fate."""
        if fate is Fate.UNANSWERED:
            raise StoreUnavailable("the fake is down")

    async def ping(self) -> None:
        """Prove that the database answers."""
        await self.before("ping")

    async def dead_letter(self, letters: Sequence[DeadLetter]) -> None:
        """Store messages that cannot be processed."""
        fate = await self.before("dead_letter")
        for letter in letters:
            self.dead.setdefault(letter.key, letter)
        self.after(fate)


class FakeJobStore(FakeDatabase):  # long: all methods of the store's classes for jobs and runs
    """The api-server's jobs, with the methods of `api_server.store`."""

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        super().__init__()
        self.now = now
        self.jobs: dict[str, Job] = {}
        self.due_at: dict[str, datetime] = {}
        self.owners: dict[str, str] = {}
        self.ended_at: dict[str, datetime] = {}
        self.reports: dict[str, Report] = {}
        self.history: dict[str, list[PastTurn]] = {}
        self.moves: list[tuple[str, Status]] = []
        """Every terminal transition that was made, in order: a job in here twice had two outcomes."""

    async def server_time(self) -> ServerTime:
        """Return the database's own time."""
        await self.before("server_time")
        return ServerTime(self.now(), "")

    async def latest_runs(self, object_ids: Sequence[str]) -> dict[str, Run]:
        """Return the latest run of each of these objects."""
        fate = await self.before("latest_runs")
        latest: dict[str, Run] = {}
        for job in sorted(self.jobs.values(), key=lambda job: job.run):
            if job.object_id in object_ids:
                latest[job.object_id] = Run(
                    job.object_id, job.run, job.job_id, job.created_at, job.status is Status.PROCESSING
                )
        self.after(fate)
        return latest

    async def insert(
        self, jobs: Sequence[Job], due: datetime, owner: str, scheduled: Mapping[str, datetime] = NOTHING_SCHEDULED
    ) -> set[str]:
        """Store new jobs; the ids of those that lost their run number to another."""
        fate = await self.before("insert")
        lost = set()
        for job in jobs:
            if job.job_id in self.jobs:
                continue
            if any(_same_place(job, other) for other in self.jobs.values()):
                lost.add(job.job_id)
                continue
            self.jobs[job.job_id] = job
            self.due_at[job.job_id] = scheduled.get(job.job_id, due)
            self.owners[job.job_id] = owner
        self.after(fate)
        return lost

    async def get(self, job_ids: Sequence[str]) -> dict[str, Job]:
        """Return the jobs with these ids."""
        self.after(await self.before("get"))
        return {job_id: self.jobs[job_id] for job_id in job_ids if job_id in self.jobs}

    async def due(self, until: datetime, limit: int) -> list[Job]:
        """Return up to `limit` jobs that must be published by `until`, the longest due first."""
        self.after(await self.before("due"))
        ids = [job_id for job_id, at in sorted(self.due_at.items(), key=lambda item: item[1]) if at <= until]
        return [self.jobs[job_id] for job_id in ids[:limit]]

    async def mark_dispatched(
        self, job_ids: Sequence[str], dispatches: int, due: datetime, *, turn: int = 1, cancelling: bool = False
    ) -> None:
        """Note that the broker holds the dispatch with this number of a turn."""
        fate = await self.before("mark_dispatched")
        for job_id in job_ids:
            job = self.jobs.get(job_id)
            if (
                job is not None
                and job.status is Status.PROCESSING
                and job.dispatches < dispatches
                and job.turn_number == turn
                and (cancelling or job.cancel_at is None)
            ):
                self.jobs[job_id] = replace(job, dispatches=dispatches)
                self.due_at[job_id] = due
        self.after(fate)

    async def postpone(self, turns: Mapping[str, int], due: datetime) -> None:
        """Have these turns dispatched again at `due` at the soonest, and never as if for the first time."""
        fate = await self.before("postpone")
        for job_id, turn in turns.items():
            job = self.jobs.get(job_id)
            if (
                job is not None
                and job.status is Status.PROCESSING
                and job.cancel_at is None
                and job.turn_number == turn
            ):
                self.jobs[job_id] = replace(job, dispatches=max(job.dispatches, 2))
                self.due_at[job_id] = due
        self.after(fate)

    async def request_cancel(self, job_ids: Sequence[str], now: datetime) -> None:
        """Note that these jobs are to be cancelled, and make them due for that."""
        fate = await self.before("request_cancel")
        for job_id in job_ids:
            job = self.jobs.get(job_id)
            if job is not None and job.status is Status.PROCESSING and job.cancel_at is None:
                self.jobs[job_id] = replace(job, cancel_at=now)
                self.due_at[job_id] = now
        self.after(fate)

    async def records(self, job_ids: Sequence[str]) -> dict[str, JobRecord]:
        """Return everything that is known of the jobs with these ids."""
        self.after(await self.before("records"))
        return {
            job_id: JobRecord(
                self.jobs[job_id],
                self.due_at.get(job_id),
                self.ended_at.get(job_id),
                self.reports.get(job_id),
                tuple(self.history.get(job_id, ())),
            )
            for job_id in job_ids
            if job_id in self.jobs
        }

    async def make_due(self, job_ids: Sequence[str], now: datetime) -> int:
        """Have the first dispatch of these jobs made now; how many."""
        fate = await self.before("make_due")
        moved = self.make_due_now(job_ids, now)
        self.after(fate)
        return moved

    def make_due_now(self, job_ids: Sequence[str], now: datetime) -> int:
        """Do it, whatever the fate."""
        moved = 0
        for job_id in job_ids:
            job = self.jobs.get(job_id)
            if (
                job is not None
                and job.status is Status.PROCESSING
                and job.dispatches == 1
                and self.due_at[job_id] > now
            ):
                self.jobs[job_id] = replace(job, dispatches=0, unanswered_turn=job.turn_number)
                self.due_at[job_id] = now
                moved += 1
        return moved

    async def make_all_due(self, now: datetime, *, tasks_only: bool = False) -> int:
        """Have every job that was published and is unfinished published again; how many."""
        fate = await self.before("make_all_due")
        later = [
            job_id
            for job_id, at in self.due_at.items()
            if at > now and self.jobs[job_id].dispatches > 0 and (self.jobs[job_id].task is not None or not tasks_only)
        ]
        self.due_at |= dict.fromkeys(later, now)
        self.after(fate)
        return len(later)

    async def apply(self, status: Status, endings: Sequence[Ending], now: datetime) -> tuple[int, set[str]]:
        """Bring jobs to a terminal status, only from `processing`."""
        fate = await self.before("apply")
        moved = 0
        for ending in endings:
            job = self.jobs.get(ending.job_id)
            if job is not None and can_move(job.status, status):
                self.jobs[ending.job_id] = replace(job, status=status, sleep_time_used=ending.sleep_time_used)
                self._end(ending.job_id, status, now)
                moved += 1
        self.after(fate)
        return moved, {ending.job_id for ending in endings} - set(self.jobs)

    async def apply_reports(self, endings: Sequence[Ending], now: datetime) -> tuple[int, set[str]]:
        """Apply endings with a report, each only to a job whose present turn it is."""
        fate = await self.before("apply_reports")
        moved = 0
        for ending in endings:
            job = self.jobs.get(ending.job_id)
            report = ending.report
            if (
                job is None
                or report is None
                or job.status is not Status.PROCESSING
                or job.turn_number != ending.turn.number
            ):
                continue
            moved += 1
            if ending.is_final:
                self.jobs[ending.job_id] = replace(job, status=ending.status, sleep_time_used=ending.sleep_time_used)
                self.reports[ending.job_id] = report
                self._end(ending.job_id, ending.status, now)
                continue
            attempt = 1 if ending.turn.task is None else ending.turn.task.attempt
            past = PastTurn(ending.turn.number, attempt, ending.status, report)
            self.history[ending.job_id] = [*self.history.get(ending.job_id, []), past][-ATTEMPTS_KEPT:]
            task = job.task or Task(
                "" if ending.turn.task is None else ending.turn.task.kind,
                json.dumps({"object_id": job.object_id}, ensure_ascii=False),
            )
            self.jobs[ending.job_id] = replace(
                job,
                turn_number=job.turn_number + 1,
                dispatches=0,
                task=replace(task, attempt=attempt + 1 if report.counts else attempt),
            )
            self.due_at[ending.job_id] = now if job.cancel_at else now + timedelta(seconds=report.delay_s)
        self.after(fate)
        return moved, {ending.job_id for ending in endings} - set(self.jobs)

    def _end(self, job_id: str, status: Status, now: datetime) -> None:
        del self.due_at[job_id]
        self.ended_at[job_id] = now
        self.moves.append((job_id, status))


class FakeLeaseStore:
    """The api-servers' leases, in the same database as the jobs."""

    def __init__(self, jobs: FakeJobStore) -> None:
        self._jobs = jobs
        self.leases: dict[str, Lease] = {}
        self.sweeps: tuple[str, datetime] | None = None

    async def renew(self, lease: Lease) -> None:
        """Write an api-server's lease down."""
        fate = await self._jobs.before("renew")
        self.leases[lease.owner] = lease
        self._jobs.after(fate)

    async def abandoned(self, since: datetime) -> list[Lease]:
        """Return the leases that were renewed before `since` only, the oldest first."""
        self._jobs.after(await self._jobs.before("abandoned"))
        old = [lease for lease in self.leases.values() if lease.renewed_at < since]
        return sorted(old, key=lambda lease: lease.renewed_at)

    async def take_over(self, lease: Lease, now: datetime, until: datetime) -> int:
        """Have the jobs that a lease stands for dispatched, of those that would be overdue before `until`; how many."""
        fate = await self._jobs.before("take_over")
        theirs = [
            job_id
            for job_id, at in self._jobs.due_at.items()
            if lease.watermark <= at < until and self._jobs.owners[job_id] == lease.owner
        ]
        moved = self._jobs.make_due_now(theirs, now)
        self._jobs.after(fate)
        return moved

    async def claim_sweeps(self, owner: str, now: datetime, until: datetime) -> Claimed:
        """Have `owner` be the one that sweeps, unless another is."""
        fate = await self._jobs.before("claim_sweeps")
        before = self.sweeps
        free = before is None or before[0] == owner or not now < before[1] <= until + CLOCK_SLACK
        if free:
            self.sweeps = owner, until
        self._jobs.after(fate)
        return Claimed.NO if not free else Claimed.FIRST if before is None else Claimed.AFTER_ANOTHER

    async def give_sweeps_back(self, owner: str) -> None:
        """End the claim of `owner`, if it has it."""
        fate = await self._jobs.before("give_sweeps_back")
        if self.sweeps is not None and self.sweeps[0] == owner:
            self.sweeps = None
        self._jobs.after(fate)

    async def delete(self, lease: Lease) -> None:
        """Delete a lease, unless it was renewed since."""
        fate = await self._jobs.before("delete")
        stands = self.leases.get(lease.owner)
        if stands is not None and stands.renewed_at == lease.renewed_at:
            del self.leases[lease.owner]
        self._jobs.after(fate)


def _same_place(one: Job, other: Job) -> bool:
    return (one.object_id, one.run) == (other.object_id, other.run)


class FakeEndingStore(FakeDatabase):
    """The job-server's endings, with the methods of `job_server.store.EndingStore`.

    With `hold`, a look-up of endings answers only when that is set; `held_up` says that one waits.
    """

    def __init__(self) -> None:
        super().__init__()
        self.hold: asyncio.Event | None = None
        self.held_up = False
        self.endings: dict[str, Ending] = {}
        self.runs: dict[str, int] = {}

    async def recorded(self, turn_ids: Sequence[str]) -> dict[str, Ending]:
        """Return the endings that are recorded for these turns."""
        self.after(await self.before("recorded"))
        found = {turn_id: self.endings[turn_id] for turn_id in turn_ids if turn_id in self.endings}
        if self.hold is not None:
            self.held_up = True
            await self.hold.wait()
        return found

    async def count_runs(self, turn_ids: Sequence[str]) -> dict[str, int]:
        """Count one more run of each of these turns; how many there were before."""
        fate = await self.before("count_runs")
        before = {turn_id: self.runs.get(turn_id, 0) for turn_id in turn_ids}
        self.runs |= {turn_id: count + 1 for turn_id, count in before.items()}
        self.after(fate)
        return before

    async def record(self, endings: Sequence[Ending]) -> dict[str, Ending]:
        """Record endings; those that were recorded already, by turn id."""
        fate = await self.before("record")
        recorded = {}
        for ending in endings:
            first = self.endings.setdefault(ending.turn.turn_id, ending)
            if first is not ending:
                recorded[ending.turn.turn_id] = first
        self.after(fate)
        return recorded
