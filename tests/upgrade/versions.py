"""Runs each service of a stack as the released version or as the code of this folder, and changes between the two."""

import asyncio
import hashlib
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from hasty.server.local_stack import Child

WHEEL = Path(__file__).with_name("hasty-0.1.0-py3-none-any.whl")
MODULES = {"api-server": "api_server", "job-server": "job_server"}
# What runs is visible in the log: a test that ran one version only would prove nothing.
RUN = (
    "import runpy, sys, {module}; print('released code in', {module}.__file__, file=sys.stderr, flush=True);"
    " runpy.run_module('{module}', run_name='__main__', alter_sys=True)"
)


class Version(Enum):
    """Which code a service runs."""

    RELEASED = "0.1"
    CURRENT = "this folder's"


def unpack_release(folder: Path) -> Path:
    """Unpack the released wheel into `folder`, once its checksum is right."""
    expected, name = WHEEL.with_name(f"{WHEEL.name}.sha256").read_text().split()
    assert name == WHEEL.name
    assert hashlib.sha256(WHEEL.read_bytes()).hexdigest() == expected
    with zipfile.ZipFile(WHEEL) as wheel:
        wheel.extractall(folder)
    return folder


@dataclass
class Versions:
    """The version of each child at its next start; the stack looks up `commands` and `environment_of` then."""

    release: Path
    commands: dict[str, Sequence[str]] = field(default_factory=dict)
    environment_of: dict[str, Mapping[str, str]] = field(default_factory=dict)

    def choose(self, version: Version, name: str) -> None:
        """Have the child `name` run this version from its next start on."""
        if version is Version.CURRENT:
            self.commands.pop(name, None)
            self.environment_of.pop(name, None)
            return
        module = MODULES[name.rpartition("-")[0]]
        # -P: the current folder holds packages of the same names.
        self.commands[name] = [sys.executable, "-P", "-c", RUN.format(module=module)]
        self.environment_of[name] = {"PYTHONPATH": str(self.release)}

    async def start(self, version: Version, *children: Child) -> None:
        """Start children that are down in this version; they are ready when this returns."""
        for child in children:
            self.choose(version, child.name)
        before = [self._released_starts(child) for child in children]
        await asyncio.gather(*(child.start() for child in children))
        await asyncio.gather(*(child.ready() for child in children))
        started = [self._released_starts(child) - count for child, count in zip(children, before, strict=True)]
        assert started == [int(version is Version.RELEASED)] * len(children), (version, started)

    async def replace(self, version: Version, child: Child) -> None:
        """Stop a child as its supervisor would and start it in this version."""
        assert await child.terminate() == 0
        await self.start(version, child)

    def _released_starts(self, child: Child) -> int:
        return child.log.read_text(errors="replace").count(f"released code in {self.release}")
