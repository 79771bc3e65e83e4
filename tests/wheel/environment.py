"""An environment of its own for the wheel, and what its programs get to see of the machine."""

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hasty.server.local_stack.resources import CODE


@dataclass(frozen=True)
class Environment:
    """An environment with the wheel installed."""

    folder: Path

    @property
    def python(self) -> str:
        """Its interpreter."""
        return str(self.folder / "bin" / "python")

    @property
    def hasty(self) -> str:
        """Its command `hasty`."""
        return str(self.folder / "bin" / "hasty")

    def variables(self, **more: str) -> Mapping[str, str]:
        """What its programs get: nothing of Hasty or of the tests' Python, and neither pip nor uv on the PATH."""
        ours = ("HASTY_", "PYTHON", "VIRTUAL_ENV")
        outside = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        return {**outside, "PATH": f"{self.folder / 'bin'}:/usr/bin:/bin", **more}


def run(*command: str, cwd: Path = CODE, env: Mapping[str, str] | None = None) -> str:
    """The output of a command that must succeed."""
    answer = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)  # noqa: S603 - ours
    assert answer.returncode == 0, (command, answer.stdout, answer.stderr)
    return answer.stdout
