"""What is counted of the messages themselves, alike in every service."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter

SET_ASIDE: Final = Counter(
    "hasty_messages_set_aside_total", "Messages that could not be understood and were set aside", ["reason"]
)
