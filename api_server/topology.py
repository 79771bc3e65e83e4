"""Keeps the streams and their consumers in place, and finds out when a stream is a new one.

What makes them is given: this process itself, or the set-up process, which is asked to (see `set_up`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Final, Protocol

from pydantic import TypeAdapter, ValidationError

from hasty.server.messaging.connection import BrokerUnavailable, Connection
from hasty.server.messaging.provisioning import StreamState, TopologyConflict
from hasty.server.mongo import StoreUnavailable
from hasty.server.runtime.logs import get_logger
from hasty.server.runtime.process import EXIT_FAILED, FatalExit

log = get_logger(__name__)

ENSURE_EVERY_S: Final = 30.0
"""How often stream and consumers are looked at while nothing suggests that they are gone."""

ENSURE_INTERVAL_S: Final = 1.0
"""They are looked at no more often than that, whatever suggests it, and so often until all is well."""

SET_UP: Final = "hasty.set_up"
"""Where the set-up process is asked to look, with a JSON list of the kinds that need a consumer."""

States = Mapping[str, StreamState]
"""By stream, which one there is."""

_IDENTITIES: Final = TypeAdapter(dict[str, str])


async def _nothing(_states: States) -> None:
    pass


class TopologyKeeper:
    """Looks after the streams and their consumers over `connection`.

    `ensure` is called with the kinds that need a consumer, by `kinds`, and returns which streams there are then.
    `on_checked` is called with those.
    """

    def __init__(
        self,
        connection: Connection,
        ensure: Callable[[Collection[str]], Awaitable[States]],
        *,
        kinds: Callable[[], Iterable[str]] = tuple,
        on_checked: Callable[[States], Awaitable[None]] = _nothing,
    ) -> None:
        self.well = False
        """Whether the last look found everything in place."""
        self._connection = connection
        self._ensure_all = ensure
        self._kinds = kinds
        self._on_checked = on_checked
        self._soon = asyncio.Event()

    def watch(self, *connections: Connection) -> None:
        """Look at once when one of these connects or meets what suggests that something is missing."""
        for connection in connections:
            connection.on_connected.append(self._soon.set)
            connection.on_missing.append(self._soon.set)

    def soon(self) -> None:
        """Look at once: there may be a kind without a consumer."""
        self._soon.set()

    async def prepare(self, kinds: Collection[str]) -> None:
        """Make the consumers of kinds that are not known yet: there is no message for them, so it need not wait.

        What fails is left to `run`.
        """
        with contextlib.suppress(BrokerUnavailable, TopologyConflict):
            await self._ensure_all(sorted({*self._kinds(), *kinds}))

    async def run(self) -> None:
        """Do it for ever.

        Raises:
            FatalExit: when something cannot be changed in place.
        """
        while True:
            await self._connection.until_connected()
            self._soon.clear()
            self.well = await self._ensure()
            await asyncio.sleep(ENSURE_INTERVAL_S)
            if self.well:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(ENSURE_EVERY_S - ENSURE_INTERVAL_S):
                        await self._soon.wait()

    async def _ensure(self) -> bool:
        """Look once; whether all is well."""
        try:
            await self._on_checked(await self._ensure_all(list(self._kinds())))
        except TopologyConflict as error:
            raise FatalExit(EXIT_FAILED, str(error)) from error
        except BrokerUnavailable as error:
            log.warning("topology_not_checked", reason=str(error))
        except StoreUnavailable as error:
            log.warning("unfinished_jobs_not_made_due", reason=str(error))
        else:
            return True
        return False


class Store(Protocol):
    """What remembers the streams; see `api_server.store.streams.StreamStore`."""

    async def identities(self) -> dict[str, str]: ...  # noqa: D102 - see there
    async def remember(self, identities: Mapping[str, str]) -> None: ...  # noqa: D102 - see there


class NewStreams:
    """Calls `on_recreated` with the streams that are new ones: what was published to the old ones is gone.

    The database remembers which stream there was, so a stream that was made anew while no api-server ran is noticed as
    well, and of many api-servers usually one acts.
    """

    def __init__(self, store: Store, on_recreated: Callable[[Collection[str]], Awaitable[None]]) -> None:
        self._store = store
        self._on_recreated = on_recreated
        self._known: dict[str, str] = {}
        self._made: set[str] = set()

    async def check(self, states: States) -> None:
        """Compare with the streams that were there before.

        Raises:
            StoreUnavailable: when the database fails; the next check repeats it.
        """
        identities = {stream: state.identity for stream, state in states.items()}
        # What was made just now is not said to be new a second time, whatever fails here.
        self._made |= {stream for stream, state in states.items() if state.is_new}
        if identities == self._known and not self._made:
            return
        known = await self._store.identities()
        new = self._made | {
            stream for stream, identity in identities.items() if known.get(stream, identity) != identity
        }
        if new:
            await self._on_recreated(new)
        if known != identities:
            await self._store.remember(identities)
        self._known, self._made = identities, set()


async def ask_for_set_up(connection: Connection, kinds: Collection[str]) -> States:
    """Have the set-up process make what is missing, and return which streams there are then.

    Raises:
        BrokerUnavailable: when it does not answer, because it is not there or could not do it.
    """
    answer = await connection.request(SET_UP, json.dumps(sorted(kinds)).encode())
    try:
        identities = _IDENTITIES.validate_json(answer)
    except ValidationError:
        raise BrokerUnavailable(f"whoever answers on {SET_UP} is no set-up process of this version") from None
    return {stream: StreamState(identity, is_new=False) for stream, identity in identities.items()}


def identities_of(states: States) -> bytes:
    """Say which streams there are, as `ask_for_set_up` reads it."""
    return _IDENTITIES.dump_json({stream: state.identity for stream, state in states.items()})
