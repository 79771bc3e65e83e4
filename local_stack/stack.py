"""The whole system as children of this process: started in order, kept running, ended in order."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Self

from local_stack import parts, programs
from local_stack.child import Child, Part, Tell
from local_stack.config import API_MONGO, API_SERVER, JOB_MONGO, JOB_SERVER, NATS, NGINX, StackConfig
from local_stack.folder import Folder

LOGS_EVERY_S = 10.0
# Whoever brings work goes first; what the others need goes last.
STOP_ORDER = ((NGINX,), (API_SERVER,), (JOB_SERVER,), (NATS,), (API_MONGO, JOB_MONGO))
SAME_ANSWER = 5

log = logging.getLogger(__name__)


class Stack:
    """A running stack; see `running`."""

    def __init__(self, config: StackConfig, folder: Folder, tell: Tell) -> None:
        self.children: dict[str, Child] = {}
        self._config = config
        self._folder = folder
        self._tell = tell
        self._ready = False
        self._serving: list[str] = []
        self._nginx = parts.Nginx(config.http_port, folder, lambda: self._serving)

    @classmethod
    @asynccontextmanager
    async def running(cls, config: StackConfig, tell: Tell = log.info) -> AsyncIterator[Self]:
        """Run a stack: every child answers when this is entered, and nothing is left of it afterwards.

        `tell` gets one line for everything that happens. A second cancellation while it ends, ends it at once.
        StackError when it cannot run; its text is one line that says what to do.
        """
        with Folder.claimed(config.folder) as folder:
            stack = cls(config, folder, tell)
            turning = asyncio.create_task(stack._turn_logs(), name="turning logs")
            try:
                await stack._start()
                yield stack
            finally:
                turning.cancel()
                await stack._end()

    @property
    def url(self) -> str:
        """Where a caller posts jobs."""
        return f"http://{self._nginx.port.address}"

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
        for part in await self._stores():
            self._add(part)
        await self._start_and_wait(self.children.values())
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
        found = [] if config.nats_url else [parts.nats(folder)]
        wanted = {API_MONGO: config.api_mongo_url, JOB_MONGO: config.job_mongo_url}
        names = [name for name, url in wanted.items() if not url]
        if names:
            if not programs.unpacked_secantusdb().is_dir():
                self._tell("fetching the database program, this once")
            program = await asyncio.to_thread(programs.secantusd)
            found += [parts.mongo(name, folder, program) for name in names]
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
        for roles in STOP_ORDER:
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
        addresses = {child.name: child.address for child in self._of(NATS, API_MONGO, JOB_MONGO)}
        for number in range(len(self._of(role)) + 1, count + 1):
            self._add(parts.service(role, number, self._folder, self._config, addresses))

    def _of(self, *roles: str) -> list[Child]:
        return [child for child in self.children.values() if child.role in roles]

    def _changed(self) -> None:
        """Keep stack.json true; a full disk must not stop the stack from tending its children."""
        try:
            self._folder.tell(self.url, self.children.values(), ready=self._ready)
        except OSError as error:
            self._tell(f"stack.json cannot be written: {error}")

    async def _turn_logs(self) -> None:
        while True:
            await asyncio.sleep(LOGS_EVERY_S)
            with suppress(OSError):
                await asyncio.to_thread(self._folder.turn_logs, self._config.log_limit_bytes)


async def _all(steps: Iterable[object]) -> None:
    """Take the steps at once and see all of them through before the first failure is raised."""
    results = await asyncio.gather(*steps, return_exceptions=True)  # type: ignore[call-overload]
    for result in results:
        if isinstance(result, BaseException):
            raise result
