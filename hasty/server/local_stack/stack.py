"""The whole system as children of this process: started in order, kept running, ended in order."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Self

from hasty.server.local_stack import disks, parts, programs
from hasty.server.local_stack.child import Child
from hasty.server.local_stack.config import API_MONGO, API_SERVER, JOB_MONGO, JOB_SERVER, NATS, NGINX, StackConfig
from hasty.server.local_stack.folder import Folder
from hasty.server.local_stack.logins import logins_in
from hasty.server.local_stack.part import Part, Tell
from hasty.server.runtime.process import end

TEND_EVERY_S = 10.0
# Whoever brings work goes first; what the others need goes last.
STOP_ORDER = ((NGINX,), (API_SERVER,), (JOB_SERVER,), (NATS,), (API_MONGO, JOB_MONGO))
SAME_ANSWER = 5

log = logging.getLogger(__name__)


class Stack:
    """A running stack; see `running`."""

    def __init__(self, config: StackConfig, folder: Folder, tell: Tell) -> None:
        self.children: dict[str, Child] = {}
        self.stops_by: float | None = None
        """When those that are being stopped are killed, by the monotonic clock; None before the end."""
        self._config = config
        self._folder = folder
        self._tell = tell
        self._ready = False
        self._outdated = False
        self._tending: list[asyncio.Task[None]] = []
        self._serving: list[str] = []
        self._nginx = parts.Nginx(config.http_port, folder, config.ui, lambda: self._serving)

    @classmethod
    @asynccontextmanager
    async def running(cls, config: StackConfig, tell: Tell = log.info) -> AsyncIterator[Self]:
        """Run a stack: every child answers when this is entered, and nothing is left of it afterwards.

        `tell` gets one line for everything that happens. A second cancellation while it ends, ends it at once.
        StackError when it cannot run; its text is one line that says what to do.
        """
        with Folder.claimed(config.folder) as folder:
            stack = cls(config, folder, tell)
            stack._tending.append(asyncio.create_task(stack._tend_folder(), name="tending the folder"))
            try:
                await stack._start()
                yield stack
            finally:
                await stack._end()

    @property
    def url(self) -> str:
        """Where a caller posts jobs."""
        return f"http://{self._nginx.port.address}"

    @property
    def dashboard_url(self) -> str | None:
        """Where a browser sees how things are, None when there is no dashboard."""
        return None if self._config.ui == "off" else f"{self.url}/ui/"

    async def scale(self, role: str, count: int) -> None:
        """Run `count` api-servers or job-servers: new ones are ready, old ones gone, and nginx knows."""
        present = self._of(role)
        kept, surplus = present[:count], present[count:]
        self._add_services(role, count)
        await self._start_and_wait(self._of(role)[len(present) :])
        if role == API_SERVER:
            await self._send_requests_to(kept + self._of(role)[len(present) :])
        await _all(child.terminate() for child in surplus)
        for child in surplus:
            child.close()
            del self.children[child.name]
        self._changed()

    async def _start(self) -> None:
        """Everyone after those it needs: a job-server, for one, works on what an api-server makes in the broker."""
        stores = await self._stores()
        disks.require_space(stores, self._config.disk_floor_mib)
        for part in stores:
            self._add(part)
        await self._start_and_wait(self.children.values())
        for child in self._of(NATS, API_MONGO, JOB_MONGO):
            storing = disks.keep_storing(child, self._tell, self._config.disk_floor_mib)
            self._tending.append(asyncio.create_task(storing, name=f"storing of {child.name}"))
        self._add_services(API_SERVER, self._config.api_servers)
        await self._start_and_wait(self._of(API_SERVER))
        self._serving = [child.address for child in self._of(API_SERVER)]
        self._add_services(JOB_SERVER, self._config.job_servers)
        self._add(self._nginx.part())
        await self._start_and_wait(self._of(JOB_SERVER, NGINX))
        self._ready = True
        self._changed()

    async def _stores(self) -> list[Part]:
        """Broker and databases, as far as no URL replaces them."""
        config, folder = self._config, self._folder
        logins = logins_in(folder.path)
        found = [] if config.replaces(NATS) else [parts.nats(folder, logins)]
        names = [name for name in (API_MONGO, JOB_MONGO) if not config.replaces(name)]
        if names:
            if not programs.unpacked_secantusdb(programs.cache()).is_dir():
                self._tell("downloading SecantusDB (first run only)")
            program = await asyncio.to_thread(programs.secantusd)
            found += [parts.mongo(name, folder, program, logins[name]) for name in names]
        return found

    async def _end(self) -> None:
        """End everything in order; cancelled meanwhile, at once."""
        ending = asyncio.create_task(self._end_in_order(), name="ending the stack")
        try:
            await asyncio.shield(ending)
        except asyncio.CancelledError:
            for child in self.children.values():
                child.kill_now()
            await ending
            raise

    async def _end_in_order(self) -> None:
        self._ready = False
        await end(self._tending)
        for roles in STOP_ORDER:
            running = [child for child in self._of(*roles) if child.pid is not None]
            if running:
                grace_s = max(child.part.grace_s for child in running)
                self.stops_by = time.monotonic() + grace_s
                self._tell(f"stopping (up to {grace_s:g} s): {', '.join(child.name for child in running)}")
            await _all(child.terminate() for child in self._of(*roles))
        for child in self.children.values():
            child.close()
        self._nginx.close()  # which may have become no child yet

    async def _start_and_wait(self, children: Iterable[Child]) -> None:
        children = list(children)
        await _all(child.start() for child in children)
        await _all(child.ready(self._config.start_timeout_s) for child in children)

    async def _send_requests_to(self, api_servers: Iterable[Child]) -> None:
        """Let nginx read a new list, and wait until no new connection meets a worker with the old one."""
        self._serving = [child.address for child in api_servers]
        self._nginx.render()
        self.children[NGINX].hang_up()
        in_a_row = 0
        async with asyncio.timeout(self._config.start_timeout_s):
            while in_a_row < SAME_ANSWER:
                in_a_row = in_a_row + 1 if await self._nginx.serves() is None else 0
                await asyncio.sleep(0.05)

    def _add(self, part: Part) -> None:
        self.children[part.name] = Child(part, self._tell, self._changed, self._config.restart_pause_s)

    def _add_services(self, role: str, count: int) -> None:
        """Add what is missing of `role` up to `count`."""
        stores = {
            child.name: parts.Store(child.address, child.part.url_at)
            for child in self._of(NATS, API_MONGO, JOB_MONGO)
            if child.part.url_at
        }
        for number in range(len(self._of(role)) + 1, count + 1):
            self._add(parts.service(role, number, self._folder, self._config, stores))

    def _of(self, *roles: str) -> list[Child]:
        return [child for child in self.children.values() if child.role in roles]

    def _changed(self) -> None:
        """Keep stack.json true; a full disk must not stop the stack from tending its children."""
        try:
            self._folder.tell(self.url, self.children.values(), ready=self._ready)
        except OSError as error:
            if not self._outdated:
                self._tell(f"stack.json cannot be written ({error.strerror}) and is out of date until it can")
            self._outdated = True
        else:
            self._outdated = False

    async def _tend_folder(self) -> None:
        """Bound the logs, and write what a full disk refused."""
        while True:
            await asyncio.sleep(TEND_EVERY_S)
            with suppress(OSError):
                await asyncio.to_thread(self._folder.turn_logs, self._config.log_limit_bytes)
            if self._outdated:
                self._changed()


async def _all(steps: Iterable[object]) -> None:
    """Take the steps at once and see all of them through before the first failure is raised."""
    results = await asyncio.gather(*steps, return_exceptions=True)  # type: ignore[call-overload]
    for result in results:
        if isinstance(result, BaseException):
            raise result
