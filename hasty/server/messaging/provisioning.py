"""Makes the broker look like `topology` describes it: the stream and its durable consumers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from hasty.server.messaging.connection import BrokerUnavailable, Connection
from hasty.server.messaging.topology import (
    DURABLES,
    FIRST_DELIVERY_S,
    STREAMS,
    Durable,
    consumer_config,
    work_durable,
)
from hasty.server.runtime.logs import get_logger

log = get_logger(__name__)

_NOT_FOUND: Final = 404
_UNAVAILABLE: Final = 503
_ERR_NO_SUITABLE_PEERS: Final = 10005
_ERR_NO_CLUSTER: Final = 10074


class TopologyConflict(Exception):
    """The stream or a consumer differs from what Hasty needs in a way that cannot be changed in place."""


@dataclass(frozen=True, slots=True)
class StreamState:
    """Which stream there is: another `identity` means that everything published before is gone."""

    identity: str
    is_new: bool


async def ensure(
    connection: Connection, ack_wait_s: float, replicas: int = 1, kinds: Iterable[str] = ()
) -> dict[str, StreamState]:
    """Make the streams and their consumers; safe to repeat, and by several at once.

    `replicas` servers of a NATS cluster keep a copy of each stream; the consumers follow the stream. Each of `kinds`
    has a consumer of its own.

    Returns:
        By stream, its identity, and whether it was made just now.

    Raises:
        BrokerUnavailable: when the broker does not answer.
        TopologyConflict: when a difference cannot be changed in place; the text names it.
    """
    states = {stream: await _ensure_stream(connection, stream, replicas) for stream in STREAMS}
    await _ensure_consumers(connection, (*DURABLES, *map(work_durable, kinds)), ack_wait_s)
    return states


async def _ensure_stream(connection: Connection, stream: str, replicas: int) -> StreamState:
    wanted = {**STREAMS[stream], "num_replicas": replicas}
    info = await connection.api(f"STREAM.INFO.{stream}")
    have = {} if _missing(info) else info["config"]
    difference = _difference(wanted, have)
    if difference:
        info = await connection.api(f"STREAM.{'UPDATE' if have else 'CREATE'}.{stream}", wanted)
        _raise_conflict(f"stream {stream}", difference, info)
        log.info("stream_updated" if have else "stream_created", stream=stream, difference=difference)
    return StreamState(identity=str(info["created"]), is_new=not have)


async def _ensure_consumers(connection: Connection, durables: Iterable[Durable], ack_wait_s: float) -> None:
    changes: list[tuple[Durable, dict[str, str], bool]] = []
    for durable in durables:
        info = await connection.api(f"CONSUMER.INFO.{durable.stream}.{durable.name}")
        is_missing = _missing(info)
        difference = _difference(consumer_config(durable, ack_wait_s), {} if is_missing else info["config"])
        if difference:
            changes.append((durable, difference, is_missing))
    for durable, _, is_missing in changes:
        if is_missing and await _has_messages(connection, durable):
            # Its predecessor was deleted, and may have delivered them: none of them is young enough then to be taken
            # for one that is delivered for the first time.
            await asyncio.sleep(FIRST_DELIVERY_S)
            break
    for durable, difference, is_missing in changes:
        wanted = {"stream_name": durable.stream, "config": consumer_config(durable, ack_wait_s)}
        answer = await connection.api(f"CONSUMER.CREATE.{durable.stream}.{durable.name}.{durable.subject}", wanted)
        _raise_conflict(f"consumer {durable.name}", difference, answer)
        log.info("consumer_created" if is_missing else "consumer_updated", consumer=durable.name, difference=difference)


async def _has_messages(connection: Connection, durable: Durable) -> bool:
    info = await connection.api(f"STREAM.INFO.{durable.stream}", {"subjects_filter": durable.subject})
    return not _missing(info) and bool(info["state"].get("subjects"))


def _missing(info: dict[str, Any]) -> bool:
    error = info.get("error")
    if error is None:
        return False
    if error.get("code") == _NOT_FOUND:
        return True
    raise BrokerUnavailable(f"JetStream says: {error.get('description')}")


def _difference(wanted: dict[str, object], have: dict[str, Any]) -> dict[str, str]:
    """What differs from what is wanted, by name, as text."""
    if not have:
        return {"exists": "no -> yes"}
    return {
        key: f"{have.get(key)!r} -> {value!r}"
        for key, value in wanted.items()
        if (sorted(value) if isinstance(value, list) else value)
        != (sorted(have[key]) if isinstance(have.get(key), list) else have.get(key))
    }


def _raise_conflict(what: str, difference: dict[str, str], answer: dict[str, Any]) -> None:
    if "error" in answer:
        changes = ", ".join(f"{key} {change}" for key, change in difference.items())
        reason = answer["error"].get("description")
        code, err_code = answer["error"].get("code", 0), answer["error"].get("err_code")
        if err_code == _ERR_NO_CLUSTER:
            raise TopologyConflict(
                f"the {what} cannot have several copies ({reason}): NATS runs as a single server. Run a cluster, or set"
                " HASTY_NATS_REPLICAS to 1."
            )
        # Not found: what was looked at a moment ago was deleted meanwhile, so the next check creates it again. A
        # cluster without a quorum, or with too few servers, changes nothing now and may later.
        passes = code in {_NOT_FOUND, _UNAVAILABLE} or err_code == _ERR_NO_SUITABLE_PEERS
        if passes or (code >= 500 and "exists" in difference):  # noqa: PLR2004 - HTTP's server errors
            raise BrokerUnavailable(f"JetStream could not make or change the {what} ({changes}): {reason}")
        raise TopologyConflict(
            f"the {what} cannot be changed in place ({changes}): {reason}. Rename or delete it, or undo the setting."
        )
