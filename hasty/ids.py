"""Job ids: UUIDs of version 7 (RFC 9562) that name the partition of their job's key.

The 48 bits of time come first, so that new jobs meet in the same few pages of an index of millions. Of the rest, the 12
bits of `rand_a` are a hash of the key, and the 62 bits of `rand_b` are chance. So a request by id can one day be routed
without asking anybody: see docs/scaling.md. Ids of version 0.1 have chance in `rand_a` as well, and stay valid.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from typing import Final

PARTITIONS: Final = 1 << 12
"""How many partitions an id can name."""

_RAND_A: Final = slice(15, 18)
"""Where the three digits of `rand_a` stand in an id's text."""


def partition_of_key(key: str) -> int:
    """Return the partition of a key, from 0 to 4095: the first 12 bits of the BLAKE2b hash of its UTF-8 text."""
    digest = hashlib.blake2b(key.encode(), digest_size=2).digest()
    return int.from_bytes(digest) >> 4


def partition_of_id(job_id: str) -> int:
    """Return the partition that a job id names."""
    return int(job_id[_RAND_A], 16)


def new_job_id(key: str) -> str:
    """Return a fresh id for a job with this key."""
    milliseconds = time.time_ns() // 1_000_000
    chance = secrets.randbits(62)
    number = milliseconds << 80 | 7 << 76 | partition_of_key(key) << 64 | 2 << 62 | chance
    text = f"{number:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
