"""Which server a client speaks to."""

from __future__ import annotations

import os
from typing import Final
from urllib.parse import urlsplit

URL_VARIABLE: Final = "HASTY_URL"
DEFAULT_URL: Final = "http://localhost:8080"


def server_url(url: str | None) -> str:
    """Return the server's URL: the given one, or that of the environment.

    Raises:
        ValueError: when it is no URL of HTTP.
    """
    found = url or os.environ.get(URL_VARIABLE) or DEFAULT_URL
    if not _is_url(found):
        raise no_url(found)
    return found.rstrip("/")


def no_url(text: str) -> ValueError:
    """Return the error about a text that is no URL of HTTP."""
    return ValueError(f"{text!r} is no URL of Hasty: write it as in {DEFAULT_URL}")


def _is_url(text: str) -> bool:
    if not text.isprintable() or " " in text:
        return False
    try:
        parts = urlsplit(text)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, half an IPv6 address
        return False
