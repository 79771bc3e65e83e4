"""A running Compose project, through the same commands that its users have."""

import asyncio
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.eventually import eventually

ROOT = Path(__file__).parents[2]
INSIDE = Path(__file__).parent / "inside"
SERVICES = ("api-mongo", "api-server", "job-mongo", "job-server", "nats", "nginx", "set-up")
ONE_SHOTS = ("credentials", "api-mongo-users", "job-mongo-users")
"""Services that do their part and end."""


async def command(*arguments: str, environment: Mapping[str, str] | None = None, stdin: bytes = b"") -> str:
    """The output of a command that must succeed; what it says on both channels is part of the failure."""
    code, out, err = await attempt(*arguments, environment=environment, stdin=stdin)
    assert code == 0, f"{' '.join(arguments)}: {code}\n{out}\n{err}"
    return out


async def attempt(
    *arguments: str, environment: Mapping[str, str] | None = None, stdin: bytes = b""
) -> tuple[int | None, str, str]:
    """How a command ended, and what it said on its two channels."""
    process = await asyncio.create_subprocess_exec(
        *arguments,
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate(stdin)
    return process.returncode, out.decode(), err.decode()


@dataclass(frozen=True)
class Project:
    """One project by its name; `environment` is what its compose file is read with."""

    name: str
    port: int
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Where nginx listens."""
        return f"http://127.0.0.1:{self.port}"

    async def compose(self, *arguments: str) -> str:
        """`docker compose` on this project."""
        return await command("docker", "compose", *arguments, environment=self._environment())

    async def script(self, *arguments: str) -> str:
        """A script of the repository, on this project."""
        return await command(*arguments, environment=self._environment())

    async def containers(self, service: str) -> list[str]:
        """The ids of a service's containers, running or not, oldest first."""
        label = f"label=com.docker.compose.project={self.name}"
        of_service = f"label=com.docker.compose.service={service}"
        once = "label=com.docker.compose.oneoff=False"
        out = await command(
            "docker", "ps", "-aq", "--no-trunc", "--filter", label, "--filter", of_service, "--filter", once
        )
        return out.split()[::-1]

    async def everything(self, *extra: str) -> list[dict[str, Any]]:
        """What `docker inspect` says about every container of the project."""
        ids = (
            await command("docker", "ps", "-aq", "--filter", f"label=com.docker.compose.project={self.name}")
        ).split()
        return await inspect(*ids, *extra)

    async def ask_inside(self, service: str, script: str, *arguments: str) -> Any:
        """What a script of tests/compose/inside prints, as JSON, run in a service's first container."""
        container = (await self.containers(service))[0]
        text = (INSIDE / script).read_bytes()
        return json.loads(await command("docker", "exec", "-i", container, "python", "-", *arguments, stdin=text))

    async def healthy(self, *, within_s: float = 60.0) -> None:
        """Return when every container that should run does and calls itself healthy."""

        async def all_healthy() -> bool:
            states = {one["Name"]: health(one) for one in await self.everything() if service_of(one) in SERVICES}
            assert states, "there are no containers"
            assert set(states.values()) == {"healthy"}, states
            return True

        await eventually(all_healthy, within_s=within_s, every_s=0.3)

    def _environment(self) -> dict[str, str]:
        return {"COMPOSE_PROJECT_NAME": self.name, "HASTY_HTTP_PORT": str(self.port), **self.environment}


async def inspect(*names: str) -> list[dict[str, Any]]:
    """What `docker inspect` says."""
    if not names:
        return []
    parsed: list[dict[str, Any]] = json.loads(await command("docker", "inspect", *names))
    return parsed


def service_of(container: Mapping[str, Any]) -> str:
    """The name of a container's service."""
    return str(container["Config"]["Labels"]["com.docker.compose.service"])


def health(container: Mapping[str, Any]) -> str:
    """What a container's health check found last; its state when it does not run."""
    state = container["State"]
    return str(state["Health"]["Status"] if state["Running"] and "Health" in state else state["Status"])
