"""What can go wrong for a caller, and how HTTP says it.

ApiError
├── BadRequest            400  the caller's input, in words
├── BodyTooLarge          413
├── TooSoonError          400  within the cooldown; `Retry-After`, `Location`
└── TryLater              503  nothing was refused for good; `Retry-After`
    ├── StoreUnavailable       the database cannot be reached, or did not answer in time
    └── Busy                   more requests wait than can be answered in good time
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from api_server.domain import TooSoon


class ApiError(Exception):
    """An answer other than the one hoped for: its text is what the caller reads."""

    status = 500

    def headers(self) -> dict[str, str]:
        """Return what the answer says beside its message."""
        return {}


class BadRequest(ApiError):
    """The request says something that cannot be; the text says what."""

    status = 400


class BodyTooLarge(ApiError):
    """The body is longer than any job needs."""

    status = 413


class TooSoonError(ApiError):
    """The object's latest job is younger than the cooldown."""

    status = 400

    def __init__(self, decision: TooSoon) -> None:
        # The original's sentence, whatever the cooldown is set to: callers compare it.
        super().__init__("you need to wait 5 minutes before rerunning the same job")
        self.decision = decision

    def headers(self) -> dict[str, str]:
        """Name the job that holds the place, and the seconds until the place is free."""
        return {
            "retry-after": str(max(1, math.ceil(self.decision.retry_after_s))),
            "location": f"/{self.decision.job_id}",
        }


class TryLater(ApiError):
    """Nothing is wrong with the request; the same one may succeed later."""

    status = 503
    retry_after_s = 1

    def headers(self) -> dict[str, str]:
        """Say when to come back."""
        return {"retry-after": str(self.retry_after_s)}


class StoreUnavailable(TryLater):
    """The database cannot be reached, or did not answer in time; whether it acted is unknown."""

    def __init__(self, reason: str) -> None:
        super().__init__("the service cannot reach its database, please try again")
        self.reason = reason


class Busy(TryLater):
    """More requests wait than can be answered in good time."""

    def __init__(self) -> None:
        super().__init__("the service is busy, please try again")
