"""What operators do to a running system."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.faults.ground import Ground, Hit, Kind, last

if TYPE_CHECKING:
    from pathlib import Path

    from local_stack import Child

_SERVICES: Final = frozenset({"api-server", "job-server"})


async def _rolling_restart(ground: Ground, hit: Hit) -> None:
    role = hit.chance.choice(("api-server", "job-server"))
    hit.begins(f"every {role}, one after the other")
    for child in ground.children(role):
        await restart(child)


async def _scaled(ground: Ground, hit: Hit) -> None:
    count = len(ground.children("job-server"))
    hit.begins(f"job-servers {count} to 1 to {count}")
    await ground.stack.scale("job-server", 1)
    await last(hit, 0.5, 1.5)
    await ground.stack.scale("job-server", count)
    await ground.back(ground.children("job-server"))


async def _next_version(ground: Ground, hit: Hit) -> None:
    """Restart one of the services as the next version, or as today's if it is the next already."""
    child = hit.chance.choice([*ground.children("api-server")[1:], *ground.children("job-server")[1:]])
    mark = edition_file(ground, child)
    if mark.exists():
        mark.unlink()
    else:
        mark.touch()
    hit.begins(child.name, "becomes the next version" if mark.exists() else "goes back to this version")
    await restart(child)
    await last(hit, 1, 2)


async def restart(child: Child) -> None:
    """Shut a service down in order and start it again."""
    await child.terminate()
    await child.start()
    await child.ready(60)


def edition_file(ground: Ground, child: Child) -> Path:
    """Name the file whose presence makes this child start as the next version, see `next_version.py`."""
    return ground.faults_folder / f"next-version-{child.address.rpartition(':')[2]}"


KINDS: Final = (
    Kind(
        "rolling restart", "every process of a service is restarted, one after the other", _SERVICES, _rolling_restart
    ),
    Kind("scaled", "job-servers from 3 to 1 to 3", frozenset({"job-server"}), _scaled),
    Kind("two versions", "one process becomes the next version, or goes back", _SERVICES, _next_version),
)
