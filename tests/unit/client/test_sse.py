"""Server-sent events, however they are cut."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hasty.client.sse import EVENT_MAX, Message, Parser, TooLong

STREAM = (
    b"retry: 1000\n\n: a comment\n\nid: 1\nevent: job\ndata: one\n\n"
    b"data:two\r\ndata:  three\r\n\r\nevent: none\n\nid: 3\ndata: \xc3\xbc\n\nunknown: x\ndata: unfinished\n"
)
MESSAGES = [Message("job", "one", "1"), Message("message", "two\n three", "1"), Message("message", "ü", "3")]


@given(st.sets(st.integers(0, len(STREAM))))
def test_events_do_not_depend_on_chunks(cuts: set[int]) -> None:
    """Each is given once its end has come; the unfinished one is not."""
    parser, places = Parser(), [0, *sorted(cuts), len(STREAM)]
    chunks = [STREAM[start:end] for start, end in itertools.pairwise(places)]
    assert [message for chunk in chunks for message in parser.feed(chunk)] == MESSAGES


def test_endless_event_is_an_error() -> None:
    """It would fill the memory."""
    parser = Parser()
    line = b"data: " + b"x" * (EVENT_MAX // 2) + b"\n"
    assert list(parser.feed(line)) == []
    with pytest.raises(TooLong):
        list(parser.feed(line * 2))
