"""Figures: what a run found as a small file, and docs/faults.md from all such files."""

from __future__ import annotations

import datetime as dt
import json
import math
import os
import platform
import re
import subprocess
import sys
import textwrap
from collections import Counter, defaultdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from local_stack import programs
from tests.faults.kinds import ALL
from tests.faults.recovery import ACK_WAIT_S, MEASURES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tests.faults.checker import Vitals
    from tests.faults.hunt import Outcome

ROOT: Final = Path(__file__).resolve().parent.parent.parent
PAGE: Final = ROOT / "docs" / "faults.md"
RESULTS: Final = ROOT / "docs" / "faults"

COMMANDS: Final = {
    # The last of each service may become the next version, see next_version.py.
    "api-server-2": (sys.executable, "-m", "tests.faults.next_version", "api_server"),
    "job-server-2": (sys.executable, "-m", "tests.faults.next_version", "job_server"),
    "job-server-3": (sys.executable, "-m", "tests.faults.next_version", "job_server"),
}

_PACKAGES: Final = ("fastapi", "motor", "pymongo", "nats-py", "uvicorn", "uvloop", "pydantic")


def summary(outcome: Outcome) -> str:
    """Give the figures of a run in a few lines."""
    told = figures(outcome)
    jobs = told["jobs"]
    faults = sum(row["injected"] for row in told["kinds"].values())
    by_law = Counter(found.law for found in outcome.violations)
    lines = [
        f"seed {told['seed']}: {told['seconds']:.0f} s, {faults} faults, {jobs['accepted']} jobs accepted",
        f"  {jobs['finished']} finished, {jobs['cancelled']} cancelled, {jobs['again']} delivered again",
        f"  {jobs['refused']} refused, {jobs['unanswered']} without an answer, {told['looks']} looks",
        f"violations: {len(outcome.violations)}",
        *(f"  {law}: {count}" for law, count in by_law.items()),
    ]
    if told["not_reached"]:
        lines.append(f"not reached: {told['not_reached']}")
    return "\n".join(lines)


def figures(outcome: Outcome) -> dict[str, Any]:
    """Give everything docs/faults.md needs of a run, as JSON can hold it."""
    plan, history = outcome.plan, outcome.history
    again = outcome.again()
    kinds: dict[str, dict[str, Any]] = defaultdict(
        lambda: {"injected": 0, "in_flight": [], "recovery_s": [], "again": 0}
    )
    for fault in history.faults:
        if not fault.reached:
            continue
        row = kinds[fault.kind]
        row["injected"] += 1
        row["in_flight"].append(fault.in_flight)
        row["again"] += len(again & fault.bystanders)
        if fault.alone and fault.recovery_s is not None:
            row["recovery_s"].append(round(fault.recovery_s, 2))
    statuses = Counter(job.status for job in outcome.facts.jobs)
    return {
        "seed": plan.seed,
        "overlap": plan.overlap,
        "seconds": round(outcome.seconds, 1),
        "at": dt.datetime.now(dt.UTC).isoformat(timespec="minutes"),
        "command": _command(outcome),
        "settings": {
            **plan.settings(Path("<folder>")),
            "api-servers": plan.api_servers,
            "job-servers": plan.job_servers,
        },
        "machine": machine(),
        "jobs": {
            "accepted": len(history.accepted()),
            "finished": statuses["finished"],
            "cancelled": statuses["cancelled"],
            "all": len(outcome.facts.jobs),
            "again": len(again),
            "refused": sum(post.status == 400 for post in history.posts),
            "unanswered": sum(post.unanswered for post in history.posts),
        },
        "looks": len(history.sights),
        "messages": len(history.sent),
        "processes": {
            process.name: [_held(process.early), _held(process.at_rest), len(process.exits)]
            for process in outcome.facts.processes
            if process.at_rest is not None
        },
        "journalled_writes": outcome.facts.journalled,
        "kinds": dict(kinds),
        "not_reached": outcome.not_reached,
        "obstacles": outcome.obstacles,
        "violations": [str(found) for found in outcome.violations],
    }


def _held(vitals: Vitals | None) -> list[float] | None:
    return None if vitals is None else [round(vitals.rss_mib, 1), vitals.descriptors, vitals.tasks]


def keep(outcome: Outcome, folder: Path) -> None:
    """Write the figures of a run into the folder, under a name that tells seed and overlap."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"seed-{outcome.plan.seed}-overlap-{outcome.plan.overlap}.json"
    file.write_text(_compact(figures(outcome)), encoding="utf-8")


def _compact(told: Mapping[str, Any]) -> str:
    """Write JSON with a line for each kind, so that a run is a small file that can be compared."""
    lines = [
        f" {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in told.items() if key != "kinds"
    ]
    kinds = [f"  {json.dumps(kind)}: {json.dumps(row)}" for kind, row in sorted(told["kinds"].items())]
    return "{\n" + ",\n".join([*lines, ' "kinds": {\n' + ",\n".join(kinds) + "\n }"]) + "\n}\n"


def keep_recovery(found: Mapping[str, Sequence[float]], folder: Path) -> None:
    """Write the recovery figures into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    told = {
        "ack_wait_s": ACK_WAIT_S,
        "times": max(len(seconds) for seconds in found.values()),
        "measures": {name: {"within_s": MEASURES[name][1], "seconds": seconds} for name, seconds in found.items()},
        "machine": machine(),
    }
    (folder / "recovery.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def load_recovery(folder: Path) -> dict[str, Any] | None:
    """Read the recovery figures, if there are any."""
    file = folder / "recovery.json"
    found: dict[str, Any] | None = json.loads(file.read_text(encoding="utf-8")) if file.exists() else None
    return found


def load(folder: Path) -> list[dict[str, Any]]:
    """Read the figures of all runs in the folder, in the order of their seeds."""
    found = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("seed-*.json"))]
    return sorted(found, key=lambda run: (run["seed"], run["overlap"]))


def machine() -> dict[str, str]:
    """Tell what a run was measured on."""
    cpu = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), ""
    )
    memory = next((line.split()[1] for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), "0")
    return {
        "cpu": cpu or platform.processor(),
        "cores": str(os.cpu_count()),
        "memory": f"{int(memory) / 2**20:.0f} GiB",
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "nats-server": _asked(programs.find("nats-server"), "--version"),
        "secantusdb": _secantusdb(),
        **{package: version(package) for package in _PACKAGES},
    }


def _command(outcome: Outcome) -> str:
    plan = outcome.plan
    words = [f"python -m tests.faults run --seed {plan.seed} --minutes {(plan.seconds or 0) / 60:g}"]
    if plan.overlap != 1:
        words.append(f"--overlap {plan.overlap}")
    words.append(f"--rate {plan.rate:g}")
    if tuple(plan.kinds) != tuple(ALL):
        words += [f"--kind '{kind}'" for kind in plan.kinds]
    return " ".join(words)


def _lines(path: str) -> Iterable[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def _asked(*command: str) -> str:
    answer = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - a program of the stack
    return (answer.stdout or answer.stderr).strip().rpartition(" ")[2]


def _secantusdb() -> str:
    line = next((line for line in _lines(str(programs.SECANTUSDB)) if line.startswith("secantusdb==")), "")
    return line.removeprefix("secantusdb==").split()[0] if line else "not used"


def page(
    runs: Sequence[Mapping[str, Any]],
    recovery: Mapping[str, Any] | None = None,
    before: Sequence[Mapping[str, Any]] = (),
) -> str:
    """Write docs/faults.md; `before` are the runs of the code before the latest finding was mended."""
    every = sorted([*before, *runs], key=lambda run: str(run["at"]))
    parts = [_totals(runs, before), _matrix(runs), _unreached(runs), _at_rest(runs)]
    parts += [_recovery(recovery), _findings(before, runs), _runs(every)]
    return "\n".join(line for part in parts for line in part) + "\n"


def totals(runs: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Add up what all runs counted."""
    return {
        "faults": sum(row["injected"] for run in runs for row in run["kinds"].values()),
        "violations": sum(len(run["violations"]) for run in runs),
        **{what: sum(run["jobs"][what] for run in runs) for what in ("accepted", "again", "refused", "unanswered")},
        "of_i8": sum(line.startswith("I8 ") for run in runs for line in run["violations"]),
        "looks": sum(run["looks"] for run in runs),
        "journalled": sum(run["journalled_writes"] for run in runs),
    }


def _totals(runs: Sequence[Mapping[str, Any]], before: Sequence[Mapping[str, Any]]) -> list[str]:
    sums, earlier = totals(runs), totals(before)
    kinds = {kind for run in runs for kind in run["kinds"]}
    return [
        "# Faults",
        "",
        *_wrapped(
            """What Hasty promises, whatever crashes: every accepted job gets exactly one outcome (the laws I1 to I8, as
            `tests/faults/checker.py` judges them). This page is written by `python -m tests.faults report` from the
            results of runs that are kept in `docs/faults/`; no figure in it was typed by hand."""
        ),
        *_wrapped(
            f"""**{sums["faults"]:,} faults of {len(kinds)} kinds were injected into running systems while they
            accepted {sums["accepted"]:,} jobs: {sums["violations"] - sums["of_i8"]:,} violations of I1 to I7 (nothing
            lost, nothing doubled, nothing back), {sums["of_i8"]:,} of I8.**"""
        ),
        *_wrapped(
            f"""These are the runs of the mechanism as it is. Before the latest finding was mended there were
            {earlier["faults"]:,} faults and {earlier["accepted"]:,} accepted jobs, with
            {earlier["violations"] - earlier["of_i8"]:,} violations of I1 to I7 and
            {earlier["of_i8"]:,} of I8, told below."""
        )
        * bool(before),
        *_wrapped(
            f"""{sums["unanswered"]:,} requests got no answer or a 5xx, {sums["refused"]:,} were refused within the
            cooldown. {sums["again"]:,} jobs were delivered more than once before their outcome was recorded, so that
            their work may have run twice, which is allowed. Callers looked at jobs {sums["looks"]:,} times meanwhile.
            {sums["journalled"]:,} writes were read off the wire to the databases, each with its demand for the
            journal."""
        ),
        *_wrapped(
            """A run is a stack of its own (`local_stack`: real processes, with a TCP proxy on each link) under steady
            load by HTTP. When all faults have healed, the checker reads both databases, the broker's consumers, the
            metrics and logs of every process, and the history of all requests. It objects when a guard is removed:
            see `tests/faults/long/test_guards.py`. A run is repeated by its command, given below; its seed decides the
            order of the faults, their targets and their lengths."""
        ),
    ]


def _matrix(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [
        "## The matrix",
        "",
        *_wrapped(
            """*Injected*: how often it happened for certain (a crash point that nothing came by is not counted). *In
            flight*: jobs accepted and not yet terminal at that moment, on average and at most. *Again*: jobs in flight
            that were delivered more than once; in runs with several faults side by side, each of them counts these.
            *Recovery*: seconds from the healing to the last outcome of all jobs accepted before it, from the runs that
            inject one fault at a time. It includes what the settings below say, above all the acknowledgement wait."""
        ),
        "| fault | what happens | injected | in flight | violations of I1 to I7 | again | recovery p50 | p99 | max |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    sums = totals(runs)
    violations = "0" if sums["violations"] == sums["of_i8"] else "see below"
    for kind in ALL.values():
        rows = [run["kinds"][kind.name] for run in runs if kind.name in run["kinds"]]
        flights = [count for row in rows for count in row["in_flight"]]
        times = sorted(seconds for row in rows for seconds in row["recovery_s"])
        cells = [
            kind.name,
            kind.what,
            str(sum(row["injected"] for row in rows)),
            f"{sum(flights) / len(flights):.0f} / {max(flights)}" if flights else "",
            violations,
            str(sum(row["again"] for row in rows)),
            *([f"{_quantile(times, part):.1f}" for part in (0.5, 0.99, 1.0)] if times else [""] * 3),
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
        *_wrapped(
            """What each service held after four seconds of load, and at the end of the run, when all had healed. A
            process that was started again since has the same name."""
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
        *_wrapped(
            f"""Apart from `HASTY_ACK_WAIT_S={recovery["ack_wait_s"]}`; in seconds, each measured {recovery["times"]}
            times on one stack with one api-server and two job-servers, by `python -m tests.faults recovery`."""
        ),
        "| | promised | p50 | max |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name, row in recovery["measures"].items():
        times = sorted(row["seconds"])
        lines.append(f"| {name} | {row['within_s']} | {_quantile(times, 0.5):.1f} | {times[-1]:.1f} |")
    return [*lines, ""]


_FOUND: Final = (
    """A broker slower than one ping made a service deaf: nats-py's reader died of the late PONG, and only the watchdog
    ended it. Mended; `test_a_late_answer_to_a_ping_does_no_harm` in `tests/faults/long/test_self_healing.py`.""",
    """A message was set aside twice, under two keys, when the word that it was dealt with was lost. Mended;
    `tests/faults/test_model.py`, and the law I7 in each run.""",
    """An api-server left with exit code 1 when the stream was deleted just before it looked after a consumer. Mended;
    `test_a_stream_that_vanishes_while_it_is_looked_after_is_no_conflict` in `tests/wire/test_nats.py`.""",
    """A probe that a leaving job-server could not answer in time was logged by uvicorn as an exception. Mended: the
  process gives such an answer the time that a probe's check may take (`PROBE_GRACE_S` in `job_server/__main__.py`).""",
)
"""What the hunt found in the mechanism, and the test that keeps its story."""


def _findings(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = ["## What the hunt found", ""]
    for what in _FOUND:
        lines += textwrap.wrap(" ".join(what.split()), 118, initial_indent="- ", subsequent_indent="  ")
    lines.append("")
    for when, runs in (("before the third of these was mended", before), ("since then", after)):
        if runs:
            sums = totals(runs)
            lines += _wrapped(
                f"""Of the runs, {len(runs)} ran the code {when}: {sums["faults"]:,} faults,
                {sums["accepted"]:,} accepted jobs, {sums["violations"]} violations."""
            )
            found = Counter(_short(line) for run in runs for line in run["violations"])
            lines += [f"- {count} times: {line}" for line, count in found.most_common()]
            lines += [""] if found else []
    return lines


def _short(violation: str) -> str:
    law, _, rest = violation.partition(" ")
    who, _, what = rest.partition(": ")
    event = re.search(r'"event": "([^"\\]*)', what)
    error = re.search(r'"exc_type": "(\w+)"', what)
    told = f"its log tells of {error[1]} ({event[1]})" if event and error else what[:200]
    return f"{law}, {who.rpartition('-')[0] or who}: {told}"


def _runs(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [
        "## The runs",
        "",
        "| command | at (UTC) | seconds | side by side | faults | accepted | violations |",
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


def _wrapped(text: str) -> list[str]:
    """Give a paragraph in lines of the width of this project, and the empty line after it."""
    return [*textwrap.wrap(" ".join(text.split()), 118, break_long_words=False, break_on_hyphens=False), ""]


def _quantile(ordered: Sequence[float], part: float) -> float:
    """Give the smallest value that at least this part of the values does not exceed."""
    return ordered[max(math.ceil(part * len(ordered)) - 1, 0)]
