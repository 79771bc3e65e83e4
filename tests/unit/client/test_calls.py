"""The calls of the client, on a scripted server."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from hasty.client.calls import BATCH_BODY_MAX, Options, filters
from hasty.client.effects import Answer, Reply
from hasty.client.errors import (
    BadInput,
    InputError,
    JobCancelled,
    JobFailed,
    JobNotEnded,
    KeyTaken,
    NoSuchJob,
    Refused,
    ServerError,
    Unavailable,
    UnexpectedAnswer,
    UnknownKind,
    Unreachable,
    WaitTimeout,
)
from hasty.client.model import Job, Kind, NewJob, Overview, Progress, decoded
from hasty.client.sse import EVENT_MAX
from tests.unit.client.scripted import JOB_ID, REFUSED, STREAM, Server, answer, bodies, event, job, problem

DONE = job("finished", output="hello", revision=9)


def test_submitted_job_is_decoded() -> None:
    """Times as times, lists as tuples; what a newer server says besides is kept."""
    server = Server([answer(job(progress={"done": 0.5, "note": "half"}, new="x"), 201)])
    made = server.run(server.v1().submit("greet", {"name": "Ada"}))
    assert bodies(server.requests) == [{"kind": "greet", "input": {"name": "Ada"}}]
    assert (made.id, made.labels, made.progress) == (JOB_ID, ("a",), Progress(0.5, "half"))
    assert made.created_at == datetime(2026, 11, 28, 19, 0, 0, 125_000, UTC)
    assert (made.ended, made.raw["new"]) == (False, "x")


def test_submit_is_repeated_under_one_idempotency_key() -> None:
    """However it failed; the next call has another key."""
    server = Server([REFUSED, problem(503, "busy"), answer(job(), 201)])
    v1 = server.v1()
    server.run(v1.submit("greet", {}))
    keys = {request.headers["idempotency-key"] for request in server.requests}
    assert (len(server.requests), len(keys)) == (3, 1)
    server.run(v1.submit("greet", {}))
    assert server.requests[-1].headers["idempotency-key"] not in keys


def test_options_are_sent() -> None:
    """Those of the caller, beside the input."""
    server = Server([answer(job(), 201)])
    server.run(server.v1(Options(5, 2, ("a", "b"), "mine")).submit("greet", {"labels": 1}))
    sent = {"kind": "greet", "input": {"labels": 1}, "delay_s": 5, "attempts": 2, "labels": ["a", "b"]}
    assert bodies(server.requests) == [sent]
    assert server.requests[0].headers["idempotency-key"] == "mine"


@pytest.mark.parametrize("key", ["", "a b", "ü", "x\n", "x" * 191])
def test_bad_idempotency_key_is_refused_at_once(key: str) -> None:
    """Before anything is sent."""
    with pytest.raises(ValueError, match="idempotency_key"):
        Options(idempotency_key=key)


def test_pauses_grow_and_keep_what_the_server_asks_for() -> None:
    """Up to a bound; then it is given up with what was said last."""
    server = Server([REFUSED])
    with pytest.raises(Unreachable, match="there cannot be reached"):
        server.run(server.v1(retry_for_s=10).get(JOB_ID))
    assert server.pauses[:6] == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0]
    assert sum(server.pauses) == pytest.approx(10)
    assert server.told[0] == ("connection refused", 0.1)

    busy = Server([problem(429, "busy", {"retry-after": "7"}), answer(job())])
    busy.run(busy.v1().get(JOB_ID))
    assert busy.pauses == [7.0]


def test_busy_server_is_given_up_with_its_own_words() -> None:
    """Under the request's id."""
    server = Server([problem(503, "disk-full", {"x-request-id": "abc"})])
    with pytest.raises(Unavailable) as caught:
        server.run(server.v1(retry_for_s=1).get(JOB_ID))
    assert (caught.value.problem, caught.value.request_id) == ("disk-full", "abc")
    assert str(caught.value) == "why not (request abc)"
    other = Server([Answer(502, {}, b"<html>")])
    with pytest.raises(Unavailable, match="HTTP status 502"):
        other.run(other.v1(retry_for_s=1).get(JOB_ID))


@pytest.mark.parametrize(
    ("reply", "error", "members"),
    [
        (problem(404, "no-such-job"), NoSuchJob, {"status": 404, "detail": "why not"}),
        (problem(409, "key-taken", {"retry-after": "30"}, job_id="j"), KeyTaken, {"job_id": "j", "retry_after_s": 30}),
        (problem(422, "unknown-kind", nearest="greet"), UnknownKind, {"nearest": "greet"}),
        (
            problem(422, "bad-input", errors=[{"pointer": "/name", "detail": "no"}]),
            BadInput,
            {"errors": (InputError("/name", "no"),)},
        ),
        (problem(500, "internal-error"), ServerError, {"problem": "internal-error"}),
        (problem(418, "of-a-newer-version"), Refused, {"problem": "of-a-newer-version"}),
        (answer({"detail": "Not Found"}, 404), UnexpectedAnswer, {}),
        (answer([1]), UnexpectedAnswer, {}),
        (answer({"id": "x"}), UnexpectedAnswer, {}),
        (answer("", 301), UnexpectedAnswer, {}),
    ],
)
def test_refusal_is_an_error_at_once(reply: Answer, error: type[Exception], members: dict[str, object]) -> None:
    """Of one tree, and with what the server told."""
    server = Server([reply])
    with pytest.raises(error) as caught:
        server.run(server.v1().submit("greet", {}))
    assert {name: getattr(caught.value, name) for name in members} == members
    assert len(server.requests) == 1


NAMED = {"x-request-id": "r-1"}
NO_JOB = event({"revision": 1})
UNEXPECTED: dict[str, tuple[list[Reply], Callable[[Server], object]]] = {
    "status": ([Answer(404, NAMED, b"{}")], lambda server: server.run(server.v1().get(JOB_ID))),
    "no JSON": ([Answer(200, NAMED, b"<html>")], lambda server: server.run(server.v1().get(JOB_ID))),
    "no job": ([Answer(201, NAMED, b"{}")], lambda server: server.run(server.v1().submit("greet", {}))),
    "waited for": ([Answer(200, NAMED, b"[]")], lambda server: server.run(server.v1().wait(JOB_ID, None))),
    "page": ([Answer(200, NAMED, b"[]")], lambda server: server.each(server.v1().jobs({}, None))),
    "list": ([Answer(200, NAMED, b"{}")], lambda server: server.run(server.v1().list_of(Kind, "/v1/kinds"))),
    "one thing": ([Answer(200, NAMED, b"7")], lambda server: server.run(server.v1().one_of(Overview, "/v1/overview"))),
    "batch": ([Answer(200, NAMED, b"{}")], lambda server: server.run(server.v1().submit_many([NewJob("greet", {})]))),
    "no stream": ([Answer(200, NAMED, b"")], lambda server: server.each(server.v1().events(JOB_ID))),
    "event": (
        [Answer(200, {**STREAM.headers, **NAMED}), NO_JOB],
        lambda server: server.each(server.v1().events(JOB_ID)),
    ),
    "long event": (
        [Answer(200, {**STREAM.headers, **NAMED}), b"data: " + b"x" * EVENT_MAX],
        lambda server: server.each(server.v1().events(JOB_ID)),
    ),
}


@pytest.mark.parametrize(("replies", "call"), UNEXPECTED.values(), ids=UNEXPECTED)
def test_unexpected_answer_names_its_request(replies: list[Reply], call: Callable[[Server], object]) -> None:
    """However it is read: by its id, logs tell what answered."""
    with pytest.raises(UnexpectedAnswer) as caught:
        call(Server(replies))
    assert caught.value.request_id == "r-1"
    assert str(caught.value).endswith(" (request r-1)")


def test_unexpected_answer_of_a_stranger_has_no_request_id() -> None:
    """It is not made up."""
    server = Server([Answer(404, {}, b"<html>")])
    with pytest.raises(UnexpectedAnswer) as caught:
        server.run(server.v1().get(JOB_ID))
    assert caught.value.request_id is None
    assert "(request" not in str(caught.value)


@pytest.mark.parametrize("job_id", ["", "..", "x/y", "x?wait=1", "01a21cd1"])
def test_what_is_no_id_is_never_sent(job_id: str) -> None:
    """It cannot become another request."""
    server = Server([answer(DONE)])
    with pytest.raises(NoSuchJob):
        server.run(server.v1().cancel(job_id))
    assert server.requests == []


def test_wait_asks_until_the_outcome() -> None:
    """Through failures of any number, and slower than a server that answers early."""
    server = Server([answer(job()), REFUSED, problem(502, "unavailable"), answer(job()), answer(DONE)])
    done = server.run(server.v1().wait(JOB_ID, None))
    assert (done.result(), [request.query["wait"] for request in server.requests]) == ("hello", ["30"] * 5)
    assert server.pauses == [0.5, 0.1, 0.2, pytest.approx(0.2)]


def test_wait_ends_with_its_time() -> None:
    """With the job as it was seen last; no request waits beyond it."""
    server = Server([answer(job())], takes_s=30)
    with pytest.raises(WaitTimeout, match="not ended within 70 s: because") as caught:
        server.run(server.v1().wait(JOB_ID, 70))
    assert [request.query["wait"] for request in server.requests] == ["30", "30", "10"]
    assert caught.value.job.id == JOB_ID
    once = Server([answer(job())])
    with pytest.raises(WaitTimeout):
        once.run(once.v1().wait(JOB_ID, 0))
    assert len(once.requests) == 1


def test_wait_of_an_outage_ends_with_its_time() -> None:
    """It says that there was no answer."""
    server = Server([REFUSED])
    with pytest.raises(Unreachable):
        server.run(server.v1().wait(JOB_ID, 5))
    assert server.now == 1005


def test_events_are_changes_to_the_outcome() -> None:
    """Across chunks; what is no change, or older, is none."""
    first, second = job(revision=3), job(phase="running", revision=4)
    stream = b"retry: 1000\n\n" + event(first) + event({**first, "why": "later"}) + event(second) + event(first)
    server = Server([STREAM, stream[:40], stream[40:], b":\n\n", event(DONE)])
    assert [each.phase for each in server.each(server.v1().events(JOB_ID))] == [None, "running", None]
    assert server.requests[0].headers["accept"] == "text/event-stream"


def test_broken_stream_goes_on_where_it_was() -> None:
    """Nothing is given twice."""
    first = job(revision=3)
    server = Server([REFUSED, STREAM, event(first), b"", problem(503, "busy"), STREAM, event(first) + event(DONE)])
    assert [each.status for each in server.each(server.v1().events(JOB_ID))] == ["processing", "finished"]
    assert [request.headers.get("last-event-id") for request in server.requests] == [None, None, "3", "3"]


def test_stream_that_delivers_begins_its_deadline_anew() -> None:
    """A failure now and then is none in a row."""
    replies: list[Reply] = [STREAM, b":\n\n", b""]
    server = Server([*replies * 30, STREAM, event(DONE)])
    assert len(server.each(server.v1(retry_for_s=1).events(JOB_ID))) == 1
    assert sum(server.pauses) > 1


def test_stream_without_more_is_read_once() -> None:
    """204: the outcome is asked for."""
    server = Server([Answer(204, {}), answer(DONE)])
    assert [each.status for each in server.each(server.v1().events(JOB_ID))] == ["finished"]


def test_stream_that_never_comes_is_given_up() -> None:
    """As a request is; one that is no stream at once."""
    server = Server([STREAM, b""] * 20)
    with pytest.raises(Unreachable, match="the stream ended"):
        server.each(server.v1(retry_for_s=5).events(JOB_ID))
    other = Server([answer("<html>")])
    with pytest.raises(UnexpectedAnswer):
        other.each(other.v1().events(JOB_ID))


def test_pages_are_read_as_far_as_needed() -> None:
    """Also a page that is empty because of its filters."""
    pages = [
        answer({"data": [job()] * 100, "next": "a"}),
        answer({"data": [], "next": "b", "searched_back_to": "2026-01-02T03:04:05Z"}),
        answer({"data": [job()], "next": None}),
    ]
    server = Server([*pages])
    searched: list[datetime] = []
    assert len(server.each(server.v1().jobs({"kind": "greet"}, None, searched.append))) == 101
    assert searched == [datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)]
    assert [dict(request.query) for request in server.requests] == [
        {"kind": "greet", "limit": "100"},
        {"kind": "greet", "limit": "100", "after": "a"},
        {"kind": "greet", "limit": "100", "after": "b"},
    ]
    some = Server([answer({"data": [job()] * 5, "next": "a"})])
    assert len(some.each(some.v1().jobs({}, 5))) == 5
    assert [request.query["limit"] for request in some.requests] == ["5"]
    assert some.each(some.v1().jobs({}, 0)) == []


def test_filters_are_written_for_the_query() -> None:
    """A time without a zone would mean another one at the server."""
    since = datetime(2026, 11, 28, 19, tzinfo=UTC)
    assert filters(kind="a", status=None, since=since) == {"kind": "a", "since": "2026-11-28T19:00:00+00:00"}
    with pytest.raises(ValueError, match="time zone"):
        filters(since=datetime(2026, 11, 28))  # noqa: DTZ001 - that is the point


def made(count: int) -> Answer:
    """The answer to a batch."""
    return answer({"id": "b", "results": [{"status": 201, "job": job()}] * count})


def test_many_jobs_go_in_batches_of_a_thousand() -> None:
    """Each under a key of its own."""
    server = Server([made(1000), made(1000), made(500)])
    results = server.run(
        server.v1(Options(labels=("all",))).submit_many(NewJob("greet", {"n": n}) for n in range(2500))
    )
    assert [len(body["jobs"]) for body in bodies(server.requests)] == [1000, 1000, 500]
    assert len({request.headers["idempotency-key"] for request in server.requests}) == 3
    assert bodies(server.requests)[1]["jobs"][0] == {"kind": "greet", "input": {"n": 1000}, "labels": ["all"]}
    assert {type(result) for result in results} == {Job}


def test_many_large_jobs_go_in_batches_of_a_mebibyte() -> None:
    """As many as fit; one that fits in none is refused here, and stops no other."""
    large = [NewJob("greet", {"x": "y" * 100_000})] * 21
    server = Server([made(10), made(10), made(1), made(1)])
    results = server.run(server.v1().submit_many([*large, NewJob("a", {"x": "y" * BATCH_BODY_MAX}), large[0]]))
    sizes = [len(request.body or b"") for request in server.requests]
    assert ([len(body["jobs"]) for body in bodies(server.requests)], max(sizes) <= BATCH_BODY_MAX) == (
        [10, 10, 1, 1],
        True,
    )
    assert [isinstance(result, Refused) for result in results] == [False] * 21 + [True, False]
    assert results[21].status == 413


def test_refused_member_says_why() -> None:
    """In its place, and with the request's id."""
    results = [
        {"status": 201, "job": job()},
        {"status": 422, "problem": {"type": "urn:hasty:problem:unknown-kind", "detail": "no", "nearest": "greet"}},
    ]
    server = Server([answer({"id": "b", "results": results}, x_request_id="r")])
    _, refused = server.run(server.v1().submit_many([NewJob("greet", {}), NewJob("gret", {})]))
    assert (type(refused), refused.nearest, refused.request_id) == (UnknownKind, "greet", "r")


@pytest.mark.parametrize(
    ("status", "error", "said"),
    [
        ("failed", JobFailed, "failed: exception: no"),
        ("cancelled", JobCancelled, "was cancelled"),
        ("processing", JobNotEnded, "has not ended: because"),
    ],
)
def test_result_of_a_job_without_one_is_an_error(status: str, error: type[Exception], said: str) -> None:
    """With the job."""
    shown = job(status, error={"reason": "exception", "type": "E", "message": "no", "traceback": ""})
    read = decoded(Job, shown)
    with pytest.raises(error, match=said) as caught:
        read.result()
    assert caught.value.job is read  # type: ignore[attr-defined]
