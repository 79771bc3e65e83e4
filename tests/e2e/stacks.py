"""Stacks of the tests' own, and what their processes tell about themselves."""

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families

from hasty.server.local_stack import Child, Stack, StackConfig

SERVICES = ("api-server", "job-server")


@dataclass(frozen=True)
class System:
    """A running system; its processes are known only when the tests started it."""

    url: str
    stack: Stack | None


@asynccontextmanager
async def running(
    folder: Path,
    *,
    api_servers: int = 1,
    job_servers: int = 1,
    environment: Mapping[str, str],
    environment_of: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
) -> AsyncIterator[Stack]:
    """A whole system until the block is left; no test may have driven a service into a traceback."""
    config = StackConfig(
        folder=folder,
        api_servers=api_servers,
        job_servers=job_servers,
        environment=environment,
        environment_of=environment_of,
    )
    async with Stack.running(config) as stack:
        yield stack
        assert tracebacks(stack) == []


def services(stack: Stack, role: str) -> list[Child]:
    """The children of a role, in the order of their names."""
    return [child for name, child in sorted(stack.children.items()) if child.role == role]


def tracebacks(stack: Stack) -> list[str]:
    """Every line of a service's log that holds a traceback, as text or as the data of a structured line."""
    logs = [child.log for role in SERVICES for child in services(stack, role)]
    return [
        f"{log.name}: {line}"
        for log in logs
        for line in log.read_text(errors="replace").splitlines()
        if "Traceback" in line or '"exception"' in line
    ]


async def metric(ports: httpx.AsyncClient, child: Child, name: str, **labels: str) -> float:
    """A metric of one service, summed over all labels but these; 0 where it has never been counted."""
    response = await ports.get(f"http://{child.address}/metrics")
    assert response.status_code == 200, response.text
    samples = (sample for family in text_string_to_metric_families(response.text) for sample in family.samples)
    return sum(sample.value for sample in samples if sample.name == name and labels.items() <= sample.labels.items())


async def metrics(ports: httpx.AsyncClient, children: Iterable[Child], name: str) -> list[float]:
    """A metric of several services, in their order."""
    return [await metric(ports, child, name) for child in children]


def connections(pid: int | None) -> int:
    """How many connections the listener of a process has."""
    found = psutil.Process(pid).net_connections(kind="tcp")
    return sum(
        connection.status == psutil.CONN_ESTABLISHED and connection.laddr.port == _port(found) for connection in found
    )


def _port(found: list[Any]) -> int:
    [port] = {connection.laddr.port for connection in found if connection.status == psutil.CONN_LISTEN}
    return int(port)
