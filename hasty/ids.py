"""Job ids: UUIDs of version 7 (RFC 9562) that name the partition of their job's key.

The 48 bits of time come first, so that new jobs meet in the same few pages of an index of millions. Of the rest, the 12
bits of `rand_a` are a hash of the key, or chance where there is none, and the 62 bits of `rand_b` are chance. So a
request by id can one day be routed without asking anybody: see docs/scaling.md. Ids of version 0.1 have chance in
`rand_a` as well, and stay valid.
"""

from __future__ import annotations

import hashlib
import os
import time
from typing import Final

PARTITIONS: Final = 1 << 12
"""How many partitions an id can name."""

_RAND_A: Final = slice(15, 18)
"""Where the three digits of `rand_a` stand in an id's text."""

_VARIANT: Final = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
"""The digit that holds the variant's two bits and two of chance, by a digit of chance."""


def partition_of_key(key: str) -> int:
    """Return the partition of a key, from 0 to 4095: the first 12 bits of the BLAKE2b hash of its UTF-8 text."""
    return int(_partition_digits(key), 16)


def partition_of_id(job_id: str) -> int:
    """Return the partition that a job id names."""
    return int(job_id[_RAND_A], 16)


def new_job_id(key: str | None) -> str:
    """Return a fresh id for a job with this key."""
    at = f"{time.time_ns() // 1_000_000:012x}"
    chance = os.urandom(10).hex()
    partition = chance[16:19] if key is None else _partition_digits(key)
    return f"{at[:8]}-{at[8:]}-7{partition}-{_VARIANT[chance[0]]}{chance[1:4]}-{chance[4:16]}"


def _partition_digits(key: str) -> str:
    return hashlib.blake2b(key.encode(), digest_size=2).hexdigest()[:3]
