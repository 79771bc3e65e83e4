"""The page: docs/faults.md from the figures of all runs that were kept."""

from __future__ import annotations

import math
import re
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from tests.chaos.faults import ALL

_LATEST: Final = (
    "seed 904 of the current code, but for four small corrections made while it ran (outputs with unusual keys or"
    " numbers, a child whose connection is gone, kinds that are not known, the `why` of a job that is being published);"
    " seed 903 while batches came every 100 ms; the others while `WORK` was a work queue"
)


def page(
    runs: Sequence[Mapping[str, Any]],
    recovery: Mapping[str, Any] | None = None,
    before: Sequence[Mapping[str, Any]] = (),
    three_nodes: Sequence[str] = (),
) -> str:
    """Write docs/faults.md; `before` are runs of earlier code, `three_nodes` is that section."""
    every = sorted([*before, *runs], key=lambda run: str(run["at"]))
    parts = [_totals(runs, before), _matrix(runs, before), _unreached(runs), _at_rest(runs)]
    parts += [_recovery(recovery), list(three_nodes), _not_covered(), _findings(before, runs), _runs(every)]
    return "\n".join(line for part in parts for line in part) + "\n"


def totals(runs: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Add up what all runs counted."""
    return {
        "faults": sum(row["injected"] for run in runs for row in run["kinds"].values()),
        "violations": sum(len(run["violations"]) for run in runs),
        **{what: sum(_of(run, what) for run in runs) for what in ("accepted", "again", "refused", "unanswered")},
        **{what: sum(_of_tasks(run, what) for run in runs) for what in ("turns", "runs", "cancels", "failed")},
        "tasks": sum(_of_tasks(run, "accepted") for run in runs),
        "looks": sum(run["looks"] for run in runs),
        "journalled": sum(run["journalled_writes"] for run in runs),
    }


def _of(run: Mapping[str, Any], what: str) -> int:
    """Count of the root kind's jobs and of handlers', of which earlier runs had none."""
    return int(run["jobs"][what]) + _of_tasks(run, what)


def _of_tasks(run: Mapping[str, Any], what: str) -> int:
    return int(run.get("tasks", {}).get(what, 0))


def _totals(runs: Sequence[Mapping[str, Any]], before: Sequence[Mapping[str, Any]]) -> list[str]:
    sums, earlier = totals(runs), totals(before)
    kinds = {kind for run in runs for kind in run["kinds"]}
    return [
        "# Faults",
        "",
        *wrapped(
            """What Hasty promises, whatever crashes: every accepted job gets exactly one outcome (the invariants
            I1 to I12, as `checker.py` and `turns.py` in `tests/chaos` judge them). This page is written by
            `python -m tests.chaos report` from the results of the runs kept in `docs/faults/`; no figure in it was
            typed by hand."""
        ),
        *wrapped(
            f"""**{sums["faults"]:,} faults of {len(kinds)} kinds were injected into running systems while they
            accepted {sums["accepted"]:,} jobs: {sums["violations"]:,} violations.** {sums["tasks"]:,} of these jobs
            were for handlers (async, thread, process and command): {sums["turns"]:,} turns in {sums["runs"]:,} runs,
            with {sums["failed"]:,} intended failures, and {sums["cancels"]:,} cancellations."""
        ),
        *wrapped(
            f"""These are the latest runs, with handlers: {_LATEST}. Besides these, there were {earlier["faults"]:,}
            faults and {earlier["accepted"]:,} accepted jobs, with {earlier["violations"]:,} violations, listed
            below."""
        )
        * bool(before),
        *wrapped(
            f"""{sums["unanswered"]:,} requests got no answer or a 5xx, {sums["refused"]:,} were refused within the
            cooldown. {sums["again"]:,} jobs were delivered more than once before their outcome was recorded, so that
            their work may have run twice, which is allowed. Meanwhile, callers read jobs {sums["looks"]:,} times.
            {sums["journalled"]:,} writes were captured on the connections to the databases, each of which asked for
            the journal."""
        ),
        *wrapped(
            """Each run has its own stack (`local_stack`: real processes, with a TCP proxy on each link) under steady
            HTTP load. When all faults have healed, the checker reads both databases, the broker's consumers, the
            metrics and logs of every process, the history of all requests, and what handlers recorded about their
            own runs: start and end, with job, attempt, run and process. It reports a violation when a safeguard is
            removed: see `tests/faults/long/test_mutations.py`. To repeat a run, use its command below; its seed
            decides the order of the faults, their targets and their lengths."""
        ),
    ]


def _matrix(latest: Sequence[Mapping[str, Any]], before: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [
        "## The matrix",
        "",
        *wrapped(
            """*Injected*: how often the fault certainly happened (a crash point that was never reached is not counted),
            in the latest runs; *in all*: in all runs. The other columns cover all runs, including those of
            earlier code, whose violations are listed below. *In flight*: jobs accepted and not yet terminal at that
            moment, on average and at most. *Again*: jobs in flight that were delivered more than once; in runs with
            several faults at a time, each fault counts them. *Recovery*: seconds from the healing to the last outcome
            of all jobs accepted before it, from the runs that inject one fault at a time. It includes the times set
            below, above all the ack wait."""
        ),
        "| fault | what happens | injected | in all | in flight | again | recovery p50 | p99 | max |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    runs = [*before, *latest]
    for kind in ALL.values():
        rows = [run["kinds"][kind.name] for run in runs if kind.name in run["kinds"]]
        flights = [count for row in rows for count in row["in_flight"]]
        times = sorted(seconds for row in rows for seconds in row["recovery_s"])
        cells = [
            kind.name,
            kind.what,
            str(sum(run["kinds"][kind.name]["injected"] for run in latest if kind.name in run["kinds"])),
            str(sum(row["injected"] for row in rows)),
            f"{sum(flights) / len(flights):.0f} / {max(flights)}" if flights else "",
            str(sum(row["again"] for row in rows)),
            *([f"{quantile(times, part):.1f}" for part in (0.5, 0.99, 1.0)] if times else [""] * 3),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def _unreached(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    lines: list[str] = []
    missed = Counter[str]()
    for run in runs:
        missed.update(run["not_reached"])
    if missed:
        told = ", ".join(f"{kind} {count}" for kind, count in sorted(missed.items()))
        lines += [f"Not reached, and not counted above: {told}.", ""]
    obstacles = {f"{kind}: {why}" for run in runs for kind, why in run["obstacles"].items()}
    lines += [f"- could not be injected: {line}" for line in sorted(obstacles)]
    return lines


def _at_rest(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = [
        f"| {run['seed']} | {name} | {exits} | {_change(early, rest, 0)} | {_change(early, rest, 1)} | "
        f"{_change(early, rest, 2)} |"
        for run in runs
        for name, (early, rest, exits) in run.get("processes", {}).items()
    ]
    if not rows:
        return []
    return [
        "## At rest",
        "",
        *wrapped(
            """What each service held after four seconds of load, and at the end of the run, when all faults had healed.
            A restarted process keeps its name."""
        ),
        "| seed | process | exits | memory, MiB | descriptors | tasks |",
        "| ---: | --- | ---: | ---: | ---: | ---: |",
        *rows,
        "",
    ]


def _change(early: Sequence[float] | None, rest: Sequence[float], which: int) -> str:
    return f"{early[which]:g} to {rest[which]:g}" if early else f"{rest[which]:g}"


def _recovery(recovery: Mapping[str, Any] | None) -> list[str]:
    if recovery is None:
        return []
    lines = [
        "## Recovery with default settings",
        "",
        *wrapped(
            f"""Except for `HASTY_ACK_WAIT_S={recovery["ack_wait_s"]}`. Seconds, each measured {recovery["times"]} times
            on one stack with one api-server and two job-servers, by `python -m tests.chaos recovery`."""
        ),
        "| | promised | p50 | max |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name, row in recovery["measures"].items():
        times = sorted(row["seconds"])
        lines.append(f"| {name} | {row['within_s']} | {quantile(times, 0.5):.1f} | {times[-1]:.1f} |")
    return [*lines, ""]


_FOUND: Final = (
    """When the broker answered a ping late, a service stopped receiving: nats-py's reader died of the late PONG, and
    only the watchdog ended the process. Fixed; `test_a_late_answer_to_a_ping_does_no_harm` in
    `tests/faults/long/test_self_healing.py`.""",
    """A message was dead-lettered twice, under two keys, when its acknowledgement was lost. Fixed;
    `tests/faults/test_model.py`, and the invariant I7 in each run.""",
    """An api-server exited with code 1 when the stream was deleted just before it checked a consumer. Fixed;
    `test_stream_that_vanishes_during_the_check_is_no_conflict` in `tests/wire/test_nats.py`.""",
    """A probe that a stopping job-server could not answer in time was logged by uvicorn as an exception. Fixed: the
    process allows such an answer the time that a probe's check may take (`PROBE_GRACE_S` in
    `job_server/__main__.py`).""",
    """A long-running job was dispatched as if for the first time, when its first publish had not been confirmed or its
    api-server was lost. Fixed; `test_running_job_is_never_dispatched_as_new` in
    `tests/unit/api_server/test_outbox.py`.""",
    """An attempt that was due waited because the previous one was still reported as running. Fixed;
    `test_only_the_turn_that_is_said_to_run_runs` in `tests/unit/api_server/test_workers.py`.""",
    """A turn that ended while its second delivery was being looked up in a slow database ran again, as if for the first
    time. Fixed; `test_turn_that_ends_during_its_look_up_is_not_run_again` in
    `tests/unit/job_server/test_handler_turns.py`.""",
    """A service exited when it wrote to a broker connection that had just been cut: uvloop raises an error that is not
    a connection error. Fixed; `test_connection_that_was_just_cut_is_unavailable` in `tests/wire/test_nats.py`.""",
    """A recreated consumer counts deliveries from 1, so a running turn ran again as if for the first time, in the end
    only in a job-server that had just started. Fixed: the consumer is recreated two seconds later;
    `test_a_consumer_that_was_deleted_comes_back_under_its_reader` in `tests/wire/test_nats.py`.""",
    """A turn whose publish got no answer was done and acknowledged, and then the broker restarted and forgot the
    message id: the repeated publish made a message that looked like a first one, so `ctx.run` was 1 in a second run.
    Fixed; `test_repeated_first_publish_tells_that_it_may_be_one` in `tests/unit/api_server/test_outbox.py`, and those
    after it.""",
    """By design: when the broker was restarted or its disk filled every few seconds, on a machine with twenty times the
    load it can handle, services exited with 70, because their connection was silent for four seconds while the broker
    answered others, and were restarted (I8, in one run of only these two kinds).""",
    """By design: a job that runs alone after its child died repeatedly, and whose child is then killed from outside,
    fails as `lost` although it did nothing wrong (I12, in one run of only the kinds that harm processes).""",
    """On a machine with ten times the load it can handle, acknowledgements were late, turns were delivered a fourth
    time and ran alone, and each of them started a process: three job-servers had sixty children. Fixed;
    `test_few_children_for_single_runs_start_at_once` in `tests/execution/test_faults.py`.""",
    """A service that stopped during two reconnections to the broker logged the traceback of one of them (I8). Fixed;
    `test_a_replaced_reconnection_breaks_no_other` in `tests/wire/test_nats.py`.""",
    """A fork of a handler wrote asyncio's "Task was destroyed but it is pending!" for each other run in its process,
    which the job-server logs as a handler's output (I8). Fixed; `test_fork_leaves_its_neighbours_in_silence` in
    `tests/execution/test_forks.py`.""",
    """A broker that was killed during a turn's first run, and was back within two seconds, had forgotten that it had
    delivered the turn, and delivered it as if for the first time: `ctx.run` was 1 in a second run (I11). Fixed: turns
    stored before a lost connection are looked up; `test_later_delivery_is_looked_up_first` in
    `tests/unit/job_server/test_job_service.py`.""",
    """An api-server started during a restart of its database got its first reading of the time two seconds late, and
    was 1.15 s ahead until the next one, which affected cooldowns and the start of waiting attempts (I4, I9). Fixed;
    `test_first_reading_is_the_quickest_of_some` in `tests/unit/test_clock.py`.""",
    """While acknowledged turns were purged from `WORK` every 30 seconds, nats-server stopped answering in two of eleven
    full disks, until it was killed (I8); why was not found out. The purge was removed
    (decision 0022), and no other run has seen this.""",
    """Eleven reported violations were mistakes of the tests, since corrected: the checker compared times of two
    processes to the millisecond (I4, I9), did not expect that a process stopped during startup ends by the signal (I8),
    and did not know that a turn dispatched again because of a fault has two messages until it ends (I11); the fault
    "kind in two versions" removed the next version before the jobs had ended that only this version understands (I1,
    I6); and the faults that publish messages again expected no second dead letter for a malformed one (I7).""",
)
"""What chaos runs found in the mechanism, and the test that guards each fix."""


_NOT_COVERED: Final = (
    """a real MongoDB replica set: elections are simulated, with two databases and a proxy (`tests/replica_set`);""",
    """power loss: processes are killed, not machines, so that a disk has all that the operating system was given;""",
    """more than one machine: processes, links and disks fail, all on one;""",
    """handlers on a broker of three nodes: the runs of the cluster have jobs of the root kind only;""",
    """a caller with many addresses, or one that sends many small bodies slowly: see
    [0014](decisions/0014-slow-uploads-are-limited-in-number.md);""",
    """stolen logins: [containers.md](containers.md#credentials) lists what they can do.""",
)


def _not_covered() -> list[str]:
    lines = ["## What is not covered", "", "No run had any of these:", ""]
    for what in _NOT_COVERED:
        lines += textwrap.wrap(
            " ".join(what.split()),
            118,
            initial_indent="- ",
            subsequent_indent="  ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    return [*lines, ""]


def _findings(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = ["## What chaos runs found", ""]
    for what in _FOUND:
        lines += textwrap.wrap(" ".join(what.split()), 118, initial_indent="- ", subsequent_indent="  ")
    lines.append("")
    for when, runs in (("before the latest of these was fixed", before), ("since then", after)):
        if runs:
            sums = totals(runs)
            lines += wrapped(
                f"""Of the runs, {len(runs)} ran the code {when}: {sums["faults"]:,} faults,
                {sums["accepted"]:,} accepted jobs, {sums["violations"]} violations."""
            )
            found = Counter(_short(line) for run in runs for line in run["violations"])
            lines += [f"- {count} times: {line}" for line, count in found.most_common()]
            lines += [""] if found else []
    return lines


def _short(violation: str) -> str:
    invariant, _, rest = violation.partition(" ")
    who, _, what = rest.partition(": ")
    event = re.search(r'"event": "([^"\\]*)', what)
    error = re.search(r'"exc_type": "(\w+)"', what)
    told = f"its log tells of {error[1]} ({event[1]})" if event and error else what[:200]
    return f"{invariant}, {who.rpartition('-')[0] or who}: {told}"


def _runs(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [
        "## The runs",
        "",
        "| command | at (UTC) | seconds | at a time | faults | accepted | violations |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for run in runs:
        faults = sum(row["injected"] for row in run["kinds"].values())
        cells = [
            f"`{run['command']}`",
            run["at"].removesuffix("+00:00").replace("T", " "),
            f"{run['seconds']:.0f}",
            str(run["overlap"]),
            str(faults),
            f"{run['jobs']['accepted']:,}",
            str(len(run["violations"])),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "Settings of the services, the same in all of these runs unless two values are given:", ""]
    names = sorted({name for run in runs for name in run["settings"]})
    for name in names:
        values = sorted({str(run["settings"].get(name, "")) for run in runs})
        lines.append(f"- `{name}`: {', '.join(values)}")
    lines += ["", "Machine and versions:", ""]
    for name in sorted({name for run in runs for name in run["machine"]}):
        lines.append(f"- {name}: {', '.join(sorted({run['machine'].get(name, '') for run in runs}))}")
    return lines


def wrapped(text: str) -> list[str]:
    """Give a paragraph in lines of the width of this project, and the empty line after it."""
    return [*textwrap.wrap(" ".join(text.split()), 118, break_long_words=False, break_on_hyphens=False), ""]


def quantile(ordered: Sequence[float], part: float) -> float:
    """Give the smallest value that at least this part of the values does not exceed."""
    return ordered[max(math.ceil(part * len(ordered)) - 1, 0)]
