"""Fakes of the broker and the databases: the same promises without processes, as tests/wire and tests/store prove.

The models use them too, so their clocks are parameters and their failures can be asked for.
"""

from tests.fakes.broker import FakeBroker, FakeJetStream, FakePullConsumer
from tests.fakes.databases import FakeEndingStore, FakeJobStore, FakeLeaseStore
from tests.fakes.fate import Fate
from tests.fakes.kinds import FakeKindStore, FakeRequestStore, FakeStatusStore
from tests.fakes.lists import FakeListingStore

__all__ = [
    "FakeBroker",
    "FakeEndingStore",
    "FakeJetStream",
    "FakeJobStore",
    "FakeKindStore",
    "FakeLeaseStore",
    "FakeListingStore",
    "FakePullConsumer",
    "FakeRequestStore",
    "FakeStatusStore",
    "Fate",
]
