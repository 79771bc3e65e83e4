"""Figures: what a run found as a small file, and docs/faults.md from all such files."""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import subprocess
import sys
from collections import Counter, defaultdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from local_stack import programs
from tests.faults.kinds import ALL

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

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
    lines = [
        f"seed {told['seed']}: {told['seconds']:.0f} s, {sum(row['injected'] for row in told['kinds'].values())} faults, "
        f"{jobs['accepted']} jobs accepted ({jobs['finished']} finished, {jobs['cancelled']} cancelled, "
        f"{jobs['again']} delivered again), {jobs['refused']} refused, {jobs['unanswered']} without an answer, "
        f"{told['looks']} looks",
        f"violations: {len(outcome.violations)}",
        *(f"  {law}: {count}" for law, count in Counter(found.law for found in outcome.violations).items()),
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
        "at": dt.datetime.now(dt.timezone.utc).isoformat(timespec="minutes"),
        "command": _command(outcome),
        "settings": {**plan.settings(Path("<folder>")), "api-servers": plan.api_servers, "job-servers": plan.job_servers},
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
        "journalled_writes": outcome.facts.journalled,
        "kinds": dict(kinds),
        "not_reached": outcome.not_reached,
        "obstacles": outcome.obstacles,
        "violations": [str(found) for found in outcome.violations],
    }


def keep(outcome: Outcome, folder: Path) -> None:
    """Write the figures of a run into the folder, under a name that tells seed and overlap."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"seed-{outcome.plan.seed}-overlap-{outcome.plan.overlap}.json"
    file.write_text(json.dumps(figures(outcome), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def load(folder: Path) -> list[dict[str, Any]]:
    """Read the figures of all runs in the folder, in the order of their seeds."""
    found = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("seed-*.json"))]
    return sorted(found, key=lambda run: (run["seed"], run["overlap"]))


def machine() -> dict[str, str]:
    """Tell what a run was measured on."""
    cpu = next((line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "")
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
    minutes = (plan.seconds or 0) / 60
    words = [f"make faults SEED={plan.seed} MINUTES={minutes:g}"]
    if plan.overlap != 1:
        words.append(f"OVERLAP={plan.overlap}")
    return " ".join(words)


def _lines(path: str) -> Iterable[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def _asked(*command: str) -> str:
    answer = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - programs of the stack
    return (answer.stdout or answer.stderr).strip().rpartition(" ")[2]


def _secantusdb() -> str:
    line = next((line for line in _lines(str(programs.SECANTUSDB)) if line.startswith("secantusdb==")), "")
    return line.removeprefix("secantusdb==").split()[0] if line else "not used"


def page(runs: Sequence[Mapping[str, Any]]) -> str:
    """Write docs/faults.md."""
    raise NotImplementedError(runs, ALL)
