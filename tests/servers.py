"""Real servers for suites that need one of them alone: a broker, a database, on a port of its own."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from local_stack import probes
from local_stack.ports import Port
from local_stack.process import Command, Process
from local_stack.programs import find, secantusd
from tests.eventually import eventually


class Server:
    """One server process that keeps its port and its data while it is stopped and started again."""

    def __init__(
        self, folder: Path, port: Port, arguments: Sequence[str], probe: Callable[[], Awaitable[str | None]]
    ) -> None:
        self.port = port
        self._folder = folder
        self._arguments = arguments
        self._probe = probe
        self._process: Process | None = None

    @property
    def data(self) -> Path:
        """Where it keeps what it must not forget."""
        return self._folder / "data"

    async def start(self) -> None:
        """Start it; it answers when this returns."""
        self.data.mkdir(parents=True, exist_ok=True)
        command = Command(self._arguments, dict(os.environ), self._folder)
        self._process = await Process.start(command, self._folder / "log")
        await eventually(self._answers, within_s=20)

    async def _answers(self) -> bool:
        problem = await self._probe()
        assert problem is None, problem
        return True

    async def kill(self) -> None:
        """End it at once, as a crash would."""
        if self._process is not None:
            self._process.kill()
            await self._process.wait()
            self._process = None

    async def wipe(self) -> None:
        """Take its data away while it is down."""
        await asyncio.to_thread(shutil.rmtree, self.data)


@asynccontextmanager
async def nats_server(folder: Path) -> AsyncIterator[Server]:
    """A broker with JetStream, empty at first."""
    port, monitor = Port(), Port()
    config = folder / "nats.conf"
    config.write_text(
        f'listen: "127.0.0.1:{port.number}"\n'
        f'http: "127.0.0.1:{monitor.number}"\n'
        f'jetstream {{ store_dir: "{folder / "data"}", sync_interval: always }}\n'
    )
    arguments = [find("nats-server"), "--config", str(config)]
    async with _running(Server(folder, port, arguments, lambda: probes.nats(port.number, monitor.number))) as server:
        yield server
    monitor.close()


@asynccontextmanager
async def mongo_server(folder: Path) -> AsyncIterator[Server]:
    """A MongoDB-compatible database, empty at first."""
    port = Port()
    arguments = [secantusd(), "--config", str(folder / "none.toml")]
    (folder / "none.toml").write_text("")
    arguments += ["--port", str(port.number), "--storage-path", str(folder / "data")]
    arguments += ["--standalone", "--sync-on-commit", "--cache-size", "128M", "--log-level", "WARNING"]
    async with _running(Server(folder, port, arguments, lambda: probes.mongo(port.number))) as server:
        yield server


@asynccontextmanager
async def _running(server: Server) -> AsyncIterator[Server]:
    try:
        await server.start()
        yield server
    finally:
        await server.kill()
        server.port.close()
