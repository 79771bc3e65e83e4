"""A wedged process heals itself: work goes on, or it leaves with a non-zero code and its supervisor brings it back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from api_server.topology import ENSURE_EVERY_S
from hasty.server.local_stack import Child, Stack, StackConfig
from tests.chaos import facts
from tests.chaos.faults.processes import WATCHDOG
from tests.chaos.proxies import LinkState
from tests.chaos.recovery import tell
from tests.chaos.system import Proxies
from tests.eventually import eventually

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("healing"), pytest.mark.own_stack]

SILENCE_S = 3
# The watchdog's timeout, twice, and the start of a process on a busy machine.
HEALS_WITHIN_S = 30


@dataclass
class System:
    """One of each service, so that nobody else can do a wedged one's work."""

    stack: Stack
    proxies: Proxies
    http: httpx.AsyncClient
    faults_folder: Path
    made: int = 0

    async def does_a_job(self) -> bool:
        """Whether a new job is finished soon."""
        self.made += 1
        answer = await self.http.post(f"{self.stack.url}/", json={"object_id": f"healing/{self.made}"})
        assert answer.status_code == 201
        where = f"{self.stack.url}/{answer.json()['message']['job_id']}"
        for _ in range(20):
            seen = await self.http.get(where)
            assert seen.status_code == 200
            if seen.json()["message"]["status"] != "processing":
                return True
            await asyncio.sleep(0.1)
        return False

    async def works(self, within_s: float = HEALS_WITHIN_S) -> None:
        """Wait until the whole way of a job is open."""
        await eventually(self.does_a_job, within_s=within_s)

    async def tell(self, child: Child, command: str) -> int:
        """Give a service a command; the pid it went to."""
        await child.ready(HEALS_WITHIN_S)
        assert child.pid is not None
        pid = child.pid
        await tell(self.faults_folder, pid, command)
        return pid


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    """A stack with short jobs and short timeouts, and a proxy on each link."""
    folder = tmp_path_factory.mktemp("healing")
    (folder / "faults").mkdir()
    proxies = Proxies()
    environment = {
        "HASTY_FAULTS_DIR": str(folder / "faults"),
        "HASTY_SILENCE_S": str(SILENCE_S),
        "HASTY_ACK_WAIT_S": "3",
        "HASTY_JOB_SLEEP_MIN_S": "0.05",
        "HASTY_JOB_SLEEP_MAX_S": "0.1",
    }
    config = StackConfig(folder=folder, environment=environment, wire=proxies.proxy, restart_pause_s=0.1)
    async with Stack.running(config) as stack, httpx.AsyncClient(timeout=10) as http:
        yield System(stack, proxies, http, folder / "faults")
    await proxies.close()


ROLES = pytest.mark.parametrize("name", ["api-server-1", "job-server-1"])


@ROLES
async def test_a_frozen_broker_connection(name: str, system: System) -> None:
    """The connection stands still for ever, though the broker accepts new connections."""
    await system.works()

    system.proxies.by_link[name, "nats"].freeze_open()

    await system.works()


@pytest.mark.parametrize("durable", facts.DURABLES)
async def test_a_deleted_consumer(durable: str, system: System) -> None:
    """It is made again, and what was published meanwhile is not lost.

    An api-server pulls only from consumers of endings: it misses the other one when it checks them all.
    """
    await system.works()
    client = await facts.connected(system.stack)
    await client.request(f"$JS.API.CONSUMER.DELETE.{facts.STREAM}.{durable}", b"", timeout=3)
    await client.close()

    await system.works(ENSURE_EVERY_S + HEALS_WITHIN_S)


@ROLES
async def test_a_closed_client(name: str, system: System) -> None:
    """The process leaves, and comes back whole."""
    await system.works()
    child = system.stack.children[name]
    exits = len(child.exits)

    pid = await system.tell(child, "close-client")

    await eventually(lambda: child.pid not in {pid, None}, within_s=HEALS_WITHIN_S)
    assert child.exits[exits:] == [WATCHDOG]
    await system.works()


@ROLES
async def test_a_blocked_event_loop(name: str, system: System) -> None:
    """The watchdog's thread ends the process, and it comes back whole."""
    await system.works()
    child = system.stack.children[name]
    exits = len(child.exits)

    pid = await system.tell(child, "block 60")

    await eventually(lambda: child.pid not in {pid, None}, within_s=HEALS_WITHIN_S)
    assert child.exits[exits:] == [WATCHDOG]
    await system.works()


@ROLES
async def test_a_late_answer_to_a_ping_does_no_harm(name: str, system: System) -> None:
    """A connection that was slow for a while is as good as before.

    Found by injected faults: the client's reader died of a PONG whose waiter had given up, and the process was deaf
    until its watchdog sent it away.
    """
    await system.works()
    child = system.stack.children[name]
    exits, proxy = len(child.exits), system.proxies.by_link[name, "nats"]
    connections = proxy.accepted

    proxy.set_state(LinkState.DUMB)
    since = time.monotonic()
    # A ping of the watchdog waits a quarter of its timeout.
    await eventually(lambda: time.monotonic() - since > SILENCE_S * 0.6, within_s=SILENCE_S)
    proxy.set_state(LinkState.FAIR)

    await system.works()
    assert child.exits[exits:] == []
    assert proxy.accepted == connections
