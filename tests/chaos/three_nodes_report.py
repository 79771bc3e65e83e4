"""The pauses of a three-node NATS cluster: as a small file, and as a section of docs/faults.md."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tests.chaos.figures import machine
from tests.chaos.report import quantile, wrapped
from tests.chaos.three_nodes import ENVIRONMENT, FAULTS, RATE

FILE: Final = "three-nodes.json"


def keep(found: Mapping[str, Sequence[float]], folder: Path) -> None:
    """Write the measured pauses into the folder, in seconds by the name of their fault."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = {"settings": ENVIRONMENT, "rate": RATE, "pauses": found, "machine": machine()}
    (folder / FILE).write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def load(folder: Path) -> dict[str, Any] | None:
    """Read the pauses, if there are any."""
    file = folder / FILE
    found: dict[str, Any] | None = json.loads(file.read_text(encoding="utf-8")) if file.exists() else None
    return found


def section(kept: Mapping[str, Any] | None) -> list[str]:
    """Write the section, in lines; none without figures."""
    if kept is None:
        return []
    times = max(len(seconds) for seconds in kept["pauses"].values())
    settings = ", ".join(f"`{name}={value}`" for name, value in kept["settings"].items())
    lines = [
        "## NATS with three nodes",
        "",
        *wrapped(
            f"""A pause is the longest time in which no job reached its outcome, in seconds, under {kept["rate"]:g} jobs
            a second; each measured {times} times by `python -m tests.chaos three-nodes`. Two api-servers, two
            job-servers and three nats-servers with `sync_interval: always`, all on the machine below. Jobs are accepted
            during every pause. After each fault, the checker found exactly one outcome for every accepted job, nothing
            pending, and no exited service process; `make test-faults` checks the same. Settings: {settings}."""
        ),
        "| | what happens | p50 | max |",
        "| --- | --- | ---: | ---: |",
    ]
    for name, found in kept["pauses"].items():
        seconds = sorted(found)
        what = " ".join((FAULTS[name].__doc__ or "").split()).removesuffix(".")
        lines.append(f"| {name} | {what} | {quantile(seconds, 0.5):.1f} | {seconds[-1]:.1f} |")
    return [*lines, ""]
