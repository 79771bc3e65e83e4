"""What operators do to a running system."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Final

from hasty.server.local_stack import Child
from tests.chaos.system import FaultKind, Injection, System, last

_SERVICES: Final = frozenset({"api-server", "job-server"})


async def _rolling_restart(system: System, hit: Injection) -> None:
    role = hit.chance.choice(("api-server", "job-server"))
    hit.begins(f"every {role}, one after the other")
    for child in system.children(role):
        await restart(system, child)


async def _scaled(system: System, hit: Injection) -> None:
    count = len(system.children("job-server"))
    hit.begins(f"job-servers {count} to 1 to {count}")
    await system.stack.scale("job-server", 1)
    await last(hit, 0.5, 1.5)
    await system.stack.scale("job-server", count)
    await system.back(system.children("job-server"))


async def _next_version(system: System, hit: Injection) -> None:
    """Restart one of the services as the next version, or as today's if it is the next already."""
    child = hit.chance.choice([*system.children("api-server")[1:], *system.children("job-server")[1:]])
    mark = edition_file(system, child)
    if mark.exists():
        mark.unlink()
    else:
        mark.touch()
    hit.begins(child.name, "becomes the next version" if mark.exists() else "goes back to this version")
    await restart(system, child)
    await last(hit, 1, 2)


async def restart(system: System, child: Child) -> None:
    """Shut a service down in order and start it again."""
    # One that is just starting, after another fault, does not listen to signals yet.
    system.allow(child, -signal.SIGTERM)
    await child.terminate()
    await child.start()
    await child.ready(60)


def edition_file(system: System, child: Child) -> Path:
    """Name the file whose presence makes this child start as the next version, see `next_version.py`."""
    return system.faults_folder / f"next-version-{child.address.rpartition(':')[2]}"


KINDS: Final = (
    FaultKind(
        "rolling restart", "every process of a service is restarted, one after the other", _SERVICES, _rolling_restart
    ),
    FaultKind("scaled", "job-servers from 3 to 1 to 3", frozenset({"job-server"}), _scaled),
    FaultKind("two versions", "one process becomes the next version, or goes back", _SERVICES, _next_version),
)
