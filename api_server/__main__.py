"""Start an api-server: read its settings, open its resources, run it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final

from api_server import lifecycle
from api_server.admission import Admission
from api_server.batches import Batches
from api_server.cancellation import CANCELS, Cancellation
from api_server.changes import Changes
from api_server.clock import DatabaseClock
from api_server.endings import Endings
from api_server.http.answers import Shortcuts
from api_server.http.app import make_app
from api_server.http.browsers import Access, hosts_of
from api_server.http.contract import Contract
from api_server.http.problems import unreadable
from api_server.http.streams import Streams
from api_server.http.v1 import V1
from api_server.http.v1_batches import BatchRequests
from api_server.http.v1_lists import Lists, SharedOverview
from api_server.http.views import News, Views
from api_server.kinds import Kinds
from api_server.listing import Listing
from api_server.outbox import Outbox
from api_server.overview import Overviews
from api_server.owners import Owners
from api_server.queries import Queries
from api_server.repetition import Repetition
from api_server.retention import FORGET, FORGOT, Retention
from api_server.settings import Settings
from api_server.store import CALL_TIMEOUT_S, DATABASE, INDEXES
from api_server.store.batches import BatchStore
from api_server.store.clocks import ClockStore
from api_server.store.dead_letters import DeadLetterStore
from api_server.store.jobs import JobStore
from api_server.store.kinds import KindStore
from api_server.store.leases import LeaseStore
from api_server.store.listing import ListingStore
from api_server.store.overview import OverviewStore
from api_server.store.requests import RequestStore
from api_server.store.retention import RetentionStore
from api_server.store.runs import RunStore
from api_server.store.statuses import StatusStore
from api_server.store.streams import StreamStore
from api_server.submission import Submission
from api_server.topology import NewStreams, States, TopologyKeeper, ask_for_set_up
from api_server.watch import APPLIED, AppliedPublisher, Watch, applied_ids
from api_server.workers import PULSES, Workers
from hasty.jobs import DeadLetter, Status
from hasty.server.messaging import watchdog
from hasty.server.messaging.acks import Acks
from hasty.server.messaging.connection import Connection
from hasty.server.messaging.consumer import PullConsumer, consume
from hasty.server.messaging.dead_letters import DeadLetters
from hasty.server.messaging.listening import listen
from hasty.server.messaging.provisioning import ensure
from hasty.server.messaging.publisher import Publisher
from hasty.server.messaging.topology import JOB_AGAIN, JOB_CANCELLED, JOB_FAILED, JOB_FINISHED, KIND_ANNOUNCED
from hasty.server.mongo import Mongo, StoreUnavailable
from hasty.server.runtime import command_line, crash_points, logs, output, process
from hasty.server.runtime.disks import FreeSpace
from hasty.server.runtime.http import HttpServer
from hasty.server.runtime.probes import Probes

NAME: Final = "api-server"
DRAIN_S: Final = 2.0
"""How long idle clients may take to leave when the process stops."""
ENDINGS_AT_ONCE: Final = 512
KINDS_AT_ONCE: Final = 256
ENDINGS: Final = {
    Status.FINISHED: JOB_FINISHED,
    Status.FAILED: JOB_FAILED,
    Status.CANCELLED: JOB_CANCELLED,
    Status.PROCESSING: JOB_AGAIN,
}


async def serve(settings: Settings, stopping: process.Stopping) -> None:  # noqa: PLR0915 - long: wiring, read from top to bottom
    """Run an api-server with these settings until asked to stop."""
    async with contextlib.AsyncExitStack() as opened:
        try:
            mongo = await opened.enter_async_context(
                Mongo.opened(settings.api_mongo_url, name=DATABASE, indexes=INDEXES, timeout_s=CALL_TIMEOUT_S)
            )
        except ValueError as error:
            raise process.FatalExit(process.EXIT_FAILED, f"HASTY_API_MONGO_URL: {error}") from None
        connection = await opened.enter_async_context(Connection.opened(settings.nats_url, name=NAME))
        set_up = connection
        if settings.nats_setup and settings.nats_setup_url not in {None, settings.nats_url}:
            set_up = await opened.enter_async_context(
                Connection.opened(str(settings.nats_setup_url), name=f"{NAME} set-up")
            )

        async def ensure_topology(kinds: Collection[str]) -> States:
            if settings.nats_setup:
                return await ensure(set_up, settings.ack_wait_s, settings.nats_replicas, kinds)
            return await ask_for_set_up(connection, kinds)

        clock = DatabaseClock()
        clocks = ClockStore(mongo)
        jobs = JobStore(mongo)
        leases = LeaseStore(mongo, jobs)
        acks = Acks(connection)
        publisher = Publisher(connection)
        workers = Workers()
        outbox = Outbox(
            jobs,
            leases,
            publisher,
            now=clock.now,
            overdue=timedelta(seconds=settings.overdue_s),
            is_running=lambda job: workers.run_turn(job.job_id, job.turn_number),
            name=logs.worker_name(),
        )
        connection.on_connected.append(outbox.sweep_soon)
        folders = [Path(folder) for folder in settings.disk_folders.split(os.pathsep) if folder]
        space = FreeSpace(folders, settings.disk_floor_mib)
        admission = Admission(
            RunStore(mongo),
            outbox,
            now=clock.now,
            cooldown=timedelta(seconds=settings.cooldown_s),
            shortage=space.shortage,
        )

        async def store_dead_letters(letters: Sequence[DeadLetter]) -> None:
            await mongo.dead_letter(letters, clock.now())

        dead_letters = DeadLetters(store_dead_letters, acks)
        kinds = Kinds(KindStore(mongo), acks, dead_letters, now=clock.now, served=workers.served)
        topology = TopologyKeeper(
            set_up,
            ensure_topology,
            kinds=kinds.names,
            on_checked=NewStreams(StreamStore(mongo), outbox.on_stream_recreated).check,
        )
        topology.watch(*{connection, set_up})
        kinds.prepare, kinds.on_new = topology.prepare, topology.soon
        endings = Endings(jobs, acks, dead_letters, now=clock.now, confirm=outbox.confirm)
        consumers = {
            status: PullConsumer(connection, durable, free_slots=lambda _buffered: ENDINGS_AT_ONCE)
            for status, durable in ENDINGS.items()
        }
        announcements = PullConsumer(connection, KIND_ANNOUNCED, free_slots=lambda _buffered: KINDS_AT_ONCE)

        queries = Queries(jobs)
        watch = Watch(StatusStore(mongo), queries.record)
        listing = ListingStore(mongo, jobs)
        changes = Changes(listing, now=clock.now)
        applied = AppliedPublisher(partial(connection.publish_core, APPLIED))

        endings.on_applied = all_of(watch.wake, changes.note, applied.post)
        hear_applied = all_of(watch.wake, changes.note)
        overviews = Overviews(
            OverviewStore(mongo), now=clock.now, root_kind=settings.root_kind, unserved=kinds.unserved
        )
        owners = Owners(leases, now=clock.now)
        views = Views(
            kinds,
            workers,
            now=clock.now,
            root_kind=settings.root_kind,
            root_cooldown_s=settings.cooldown_s,
            ui=settings.ui,
            news=News(
                settings.ack_wait_s,
                overviews.unfinished,
                lambda: connection.unreachable_s,
                outbox.lease.in_flight,
                owners.gone_s,
            ),
        )
        requests = RequestStore(mongo)
        submission = Submission(
            kinds,
            RunStore(mongo),
            jobs,
            requests,
            outbox,
            now=clock.now,
            root_kind=settings.root_kind,
            root_cooldown=timedelta(seconds=settings.cooldown_s),
            shortage=space.shortage,
        )
        publish_cancels = partial(connection.publish_core, CANCELS)
        cancellation = Cancellation(jobs, now=clock.now, sweep_soon=outbox.sweep_soon, publish=publish_cancels)
        repetition = Repetition(submission, queries.record, root_kind=settings.root_kind)
        lists = Lists(
            Listing(listing, now=clock.now, root_kind=settings.root_kind),
            SharedOverview(overviews, views),
            DeadLetterStore(mongo, now=clock.now).latest,
            Streams(watch, changes, queries.record, views.job),
            views,
        )
        retention = Retention(
            RetentionStore(mongo, RunStore(mongo)),
            now=clock.now,
            keep_for=timedelta(days=settings.retention_days),
            is_chosen=outbox.sweep_claim.held,
            cooldown_of=partial(cooldown_of, kinds, timedelta(seconds=settings.cooldown_s)),
            publish=partial(connection.publish_core, FORGET),
        )
        batches = Batches(BatchStore(mongo, jobs), requests, submission, cancellation, repetition, watch, now=clock.now)
        v1 = V1(
            submission, queries.record, cancellation, watch, views, repetition, lists, BatchRequests(batches, views)
        )

        async def database() -> str | None:
            await mongo.prove_writes()
            clock.now()
            return None

        async def consuming() -> str | None:
            all_consume = all(consumer.consuming for consumer in consumers.values())
            return None if all_consume else "endings are not being consumed"

        async def disk() -> str | None:
            return space.shortage()

        probes = Probes(
            {"database": database, "broker": publisher.prove_stores, "consumer": consuming, "disk": disk},
            # Jobs are accepted without the broker, and dispatched when it is back; without space, jobs can be read.
            optional=frozenset({"broker", "consumer", "disk"}),
        )
        # Requests are answered from the first moment on; without a database, with 503.
        with contextlib.suppress(StoreUnavailable):
            await clock.read(clocks)
        contract = Contract(admission, queries)
        http = await opened.enter_async_context(
            HttpServer.running(
                make_app(contract, probes, v1, Access(settings.ui, hosts_of(settings.ui_hosts))),
                shortcut=Shortcuts(contract, v1),
                refuse=unreadable,
                host=settings.bind_host,
                port=settings.bind_port,
                drain_s=DRAIN_S,
                drain_delay_s=settings.drain_delay_s,
                grace_s=settings.shutdown_grace_s,
            )
        )
        clock.publish_offset()
        crash_points.on_command("close-client", connection.client.close)
        await lifecycle.run(
            [
                (consumer, consume(consumer, partial(endings.apply_endings, status), dead_letters.put_defect))
                for status, consumer in consumers.items()
            ]
            + [(announcements, consume(announcements, kinds.take, dead_letters.put_defect))],
            {
                "clock": clock.run(clocks),
                "topology": topology.run(),
                "sweeps": outbox.run_sweeps(),
                "lease": outbox.lease.run(),
                "watchdog": watchdog.watch(connection, settings.silence_s),
                "kinds": kinds.run(),
                "waiters": watch.run(),
                "changes": changes.run(),
                "owners": owners.run(),
                "retention": retention.run(),
                "forgotten": listen(connection, FORGOT, retention.hear),
                "pulses": listen(connection, PULSES, workers.hear),
                "applied": listen(connection, APPLIED, lambda data: hear_applied(applied_ids(data))),
            },
            http=http,
            watch=watch,
            outbox=outbox,
            stopping=stopping,
            grace_s=settings.shutdown_grace_s,
        )


def cooldown_of(kinds: Kinds, root_cooldown: timedelta, kind: str | None) -> timedelta:
    """Return the longest cooldown that a version of a kind has; the root kind's for None."""
    if kind is None:
        return root_cooldown
    return timedelta(seconds=max((version.cooldown_s for version in kinds.versions(kind)), default=0))


def all_of(*calls: Callable[[Sequence[str]], None]) -> Callable[[Sequence[str]], None]:
    """Return what makes all of these calls."""

    def call(job_ids: Sequence[str]) -> None:
        for each in calls:
            each(job_ids)

    return call


def main() -> None:
    """Run the process; does not return."""
    output.discard_failed_writes()
    settings = command_line.read(Settings, NAME)
    logs.configure(NAME, settings.log_level, settings.log_format)
    process.run(lambda stopping: serve(settings, stopping), settings.silence_s, settings.faults_dir)


if __name__ == "__main__":
    main()
