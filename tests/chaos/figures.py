"""Figures: what a run found, as a few lines and as a small file."""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from hasty.server.local_stack import programs
from tests.chaos.checker import Vitals
from tests.chaos.faults import ALL
from tests.chaos.plan import Outcome
from tests.chaos.recovery import ACK_WAIT_S, MEASURES

ROOT: Final = Path(__file__).resolve().parent.parent.parent
PAGE: Final = ROOT / "docs" / "faults.md"
RESULTS: Final = ROOT / "docs" / "faults"

COMMANDS: Final = {
    # All but the first of each service may become the next version, and each job-server may load other handlers, see
    # next_version.py.
    "api-server-2": (sys.executable, "-m", "tests.chaos.next_version", "api_server"),
    "job-server-1": (sys.executable, "-m", "tests.chaos.next_version", "job_server"),
    "job-server-2": (sys.executable, "-m", "tests.chaos.next_version", "job_server"),
    "job-server-3": (sys.executable, "-m", "tests.chaos.next_version", "job_server"),
}

_PACKAGES: Final = ("fastapi", "motor", "pymongo", "nats-py", "uvicorn", "uvloop", "pydantic")


def summary(outcome: Outcome) -> str:
    """Give the figures of a run in a few lines."""
    told = figures(outcome)
    jobs, tasks = told["jobs"], told["tasks"]
    faults = sum(row["injected"] for row in told["kinds"].values())
    by_invariant = Counter(found.invariant for found in outcome.violations)
    lines = [
        f"seed {told['seed']}: {told['seconds']:.0f} s, {faults} faults, {jobs['accepted']} jobs accepted",
        f"  {jobs['finished']} finished, {jobs['cancelled']} cancelled, {jobs['again']} delivered again",
        f"handlers: {tasks['accepted']} jobs accepted, {tasks['turns']} turns, {tasks['again']} of them run again",
        f"  {tasks['finished']} finished, {tasks['failed']} failed, {tasks['cancelled']} cancelled",
        f"  {jobs['refused']} refused, {jobs['unanswered']} without an answer, {told['looks']} looks",
        f"violations: {len(outcome.violations)}",
        *(f"  {invariant}: {count}" for invariant, count in by_invariant.items()),
    ]
    if told["not_reached"]:
        lines.append(f"not reached: {told['not_reached']}")
    return "\n".join(lines)


def figures(outcome: Outcome) -> dict[str, Any]:  # long: a figure a line
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
        "tasks": _tasks(outcome),
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


def _tasks(outcome: Outcome) -> dict[str, int]:
    """Count handlers' jobs, their turns and their runs."""
    found = outcome.facts
    statuses = Counter(task.status for task in found.tasks)
    return {
        "accepted": sum(post.accepted for post in outcome.history.tasks),
        "unanswered": sum(post.unanswered for post in outcome.history.tasks),
        "refused": sum(post.status == 409 for post in outcome.history.tasks),
        **{status: statuses[status] for status in ("finished", "failed", "cancelled")},
        "cancels": len(outcome.history.cancels),
        "turns": len(found.endings),
        "runs": len(found.runs),
        "again": sum(ending.run > 1 for ending in found.endings),
    }


def _held(vitals: Vitals | None) -> list[float] | None:
    return None if vitals is None else [round(vitals.rss_mib, 1), vitals.descriptors, vitals.tasks]


def keep(outcome: Outcome, folder: Path) -> None:
    """Write the figures of a run into the folder, under a name that tells seed and overlap."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"seed-{outcome.plan.seed}-overlap-{outcome.plan.overlap}.json"
    text = _compact(figures(outcome))
    # No path of the machine that it ran on.
    for path, name in ((outcome.plan.folder.resolve(), "<folder>"), (ROOT, "<checkout>"), (sys.prefix, "<python>")):
        text = text.replace(str(path), name)
    file.write_text(text, encoding="utf-8")


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
    words = [f"python -m tests.chaos run --seed {plan.seed} --minutes {(plan.seconds or 0) / 60:g}"]
    if plan.overlap != 1:
        words.append(f"--overlap {plan.overlap}")
    words.append(f"--rate {plan.rate:g} --task-rate {plan.task_rate:g}")
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
