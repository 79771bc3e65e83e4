"""What api-servers may ask of the set-up process."""

import json
from collections.abc import Collection

import pytest

from api_server.set_up import KINDS_MAX, Requests
from api_server.topology import States
from hasty.server.messaging.connection import BrokerUnavailable
from hasty.server.messaging.provisioning import StreamState, TopologyConflict


class Broker:
    """Has one stream, and says for which kinds it was asked to make consumers."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.failure: Exception | None = None
        self.failed = 0
        self.requests = Requests(self._ensure, on_failed=self._on_failed)

    async def _ensure(self, kinds: Collection[str]) -> States:
        if self.failure is not None:
            raise self.failure
        self.asked.append(list(kinds))
        return {"JOBS": StreamState("j1", is_new=True)}

    def _on_failed(self) -> None:
        self.failed += 1


async def test_kinds_that_were_asked_for_add_up() -> None:
    """Several api-servers may know different ones for a moment; each gets to know which streams there are."""
    broker = Broker()

    for data in (b'["resize"]', b'["greet", "resize"]', b"[]"):
        assert json.loads(await broker.requests.answer(data) or b"") == {"JOBS": "j1"}

    assert broker.asked == [["resize"], ["greet", "resize"], ["greet", "resize"]]
    assert broker.requests.kinds() == ["greet", "resize"]


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"7", b"\xff", b'["Greet"]', b'["a.b"]', b'["*"]', b'[">"]', b'[""]', b"[1]", b'["a\\n"]', b"[" * 99],
)
async def test_malformed_requests_make_nothing(data: bytes) -> None:
    """They get no answer, and no consumer for what is no kind."""
    broker = Broker()

    assert await broker.requests.answer(data) is None

    assert (broker.asked, broker.requests.kinds()) == ([], [])


async def test_number_of_kinds_is_limited() -> None:
    """Each would be a consumer in the broker."""
    broker = Broker()
    assert await broker.requests.answer(json.dumps([f"k{number}" for number in range(KINDS_MAX)]).encode())

    assert await broker.requests.answer(b'["one_more"]') is None
    assert await broker.requests.answer(b'["k7"]')

    assert len(broker.requests.kinds()) == KINDS_MAX


@pytest.mark.parametrize("failure", [BrokerUnavailable("away"), TopologyConflict("other limits")])
async def test_request_that_cannot_be_met_gets_no_answer(failure: Exception) -> None:
    """The process looks again by itself, and the kinds that were asked for are not forgotten."""
    broker = Broker()
    broker.failure = failure

    assert await broker.requests.answer(b'["greet"]') is None

    assert broker.failed == 1
    assert broker.requests.kinds() == ["greet"]
