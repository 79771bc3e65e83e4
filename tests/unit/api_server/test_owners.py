"""Which api-servers are gone, as far as their leases say."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from api_server.domain import Lease
from api_server.owners import LOOK_EVERY_S, Owners

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


class Leases:
    """The leases of two api-servers, one of which renewed its own long ago."""

    async def all(self) -> Sequence[Lease]:
        """Read them."""
        return [
            Lease("alive", NOON - timedelta(seconds=3), NOON),
            Lease("gone", NOON - timedelta(seconds=6), NOON),
        ]


async def test_owner_is_not_gone_because_nobody_looked() -> None:
    """Between two looks, what was seen last grows older; that says nothing about who renewed it in time."""
    now = NOON
    owners = Owners(Leases(), now=lambda: now)
    assert owners.gone_s("gone") is None
    await owners.look()
    now += timedelta(seconds=LOOK_EVERY_S)
    assert [owners.gone_s(owner) for owner in ("alive", "gone", "unknown")] == [None, 6 + LOOK_EVERY_S, None]
