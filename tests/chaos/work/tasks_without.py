"""The handlers without `versioned`, which nobody serves for a while then."""

from __future__ import annotations

from tasks import *  # type: ignore[import-not-found]  # noqa: F403 - all others are the same

from hasty.declare import DECLARED

DECLARED[:] = [one for one in DECLARED if one.name != "versioned"]
