"""Job ids: unique, in order of time, and with the partition of their key."""

import time
import uuid
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hasty.ids import PARTITIONS, new_job_id, partition_of_id, partition_of_key
from hasty.jobs import JOB_ID

keys = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=256)


@given(keys)
def test_id_is_a_uuid_that_names_its_partition(key: str) -> None:
    """Version 7 and variant as in RFC 9562, in lower case, with the time in front."""
    before = time.time_ns() // 1_000_000
    job_id = new_job_id(key)
    after = time.time_ns() // 1_000_000

    read = uuid.UUID(job_id)
    assert JOB_ID.fullmatch(job_id)
    assert (read.version, read.variant) == (7, uuid.RFC_4122)
    assert before <= read.int >> 80 <= after
    assert partition_of_id(job_id) == partition_of_key(key) < PARTITIONS


def test_id_without_a_key_names_any_partition() -> None:
    """Evenly, and is a UUID like the others."""
    ids = [new_job_id(None) for _ in range(PARTITIONS)]

    assert {(uuid.UUID(job_id).version, uuid.UUID(job_id).variant) for job_id in ids} == {(7, uuid.RFC_4122)}
    assert {job_id[19] for job_id in ids} == set("89ab")
    assert len({partition_of_id(job_id) for job_id in ids}) > PARTITIONS / 2


@pytest.mark.parametrize(("key", "partition"), [("x", 617), ("", 2847), ("ünï", 60), ("invoice/2026-11", 3396)])
def test_partition_of_a_key_never_changes(key: str, partition: int) -> None:
    """Ids that were handed out name it: these values are for all versions."""
    assert partition_of_key(key) == partition


def test_ids_of_one_key_differ() -> None:
    """The partition is the same; 62 bits of chance are not."""
    ids = {new_job_id("x") for _ in range(10_000)}

    assert len(ids) == 10_000
    assert len({partition_of_id(job_id) for job_id in ids}) == 1


def test_keys_spread_over_all_partitions() -> None:
    """Evenly: of 200,000 keys, no partition gets twice its share or less than half of it."""
    counts = Counter(partition_of_key(f"key {number}") for number in range(200_000))

    share = 200_000 / PARTITIONS
    assert len(counts) == PARTITIONS
    assert share / 2 < min(counts.values())
    assert max(counts.values()) < share * 2
