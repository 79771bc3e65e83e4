"""Events of handlers' turns, and why a message is no event: the reason is stored with the dead letter."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from hasty.jobs import Ending, Failure, Job, Kind, Reason, Report, Status, Task, Turn, Way, place_of
from hasty.server.messaging.events import (
    MalformedMessage,
    Subject,
    announced_kind,
    announcement,
    decode_ending,
    decode_kind,
    decode_turn,
    dispatch,
    work_subject,
)

JOB_ID = "00000000-0000-7000-8000-000000000001"
OTHER_ID = "00000000-0000-7000-8000-000000000002"
CREATED_AT = datetime(2026, 1, 2, 12, tzinfo=UTC)
TASK = Task("greet", '{"name":"Ada"}', 2, 3, ("a",), ("v1",))
JOB = Job(JOB_ID, place_of("greet", None, JOB_ID), 1, CREATED_AT, turn_number=4, task=TASK)
KIND = Kind("greet", Way.ASYNC, "v1", "{}", "{}", key="{name}", attempts=3)


def body(subject: str = "job:created", **changes: Any) -> bytes:
    """An event of the root kind; changes are of its job, or with `event_` before the name, of the event."""
    job = {"id": JOB_ID, "job_id": JOB_ID, "object_id": "x", "status": "processing", "timestamp": 1}
    event: dict[str, Any] = {"subject": subject, "job": job | {"sleep_time_used": 0}}
    for name, value in changes.items():
        (event if name.startswith("event_") else event["job"])[name.removeprefix("event_")] = value
    return json.dumps(event).encode()


@pytest.mark.parametrize(
    ("subject", "data", "reason"),
    [
        ("job:created", body("job:finished"), "the event says 'job:finished' but came on 'job:created'"),
        ("job:created", body(status="finished"), "a job:created event cannot have the status 'finished'"),
        ("job:cancel", body("job:cancel", status="finished"), "a job:cancel event cannot have the status 'finished'"),
        ("job:created", body(id=OTHER_ID), "id and job_id differ"),
        ("job:created", body(object_id="a\x00"), "object_id must not contain control characters or lone surrogates"),
        ("job:created", body(timestamp="1"), "job.timestamp: Input should be a valid integer"),
        ("job:created", body(event_turn=0), "turn: Input should be greater than or equal to 1"),
        ("job:created", b"1", "the message: Input should be an object"),
        ("work.greet", body("work.greet"), "the event's task is not of the kind of 'work.greet'"),
        (
            "work.greet",
            body("work.greet", event_task={"kind": "resize", "input": "{}"}),
            "the event's task is not of the kind of 'work.greet'",
        ),
        (
            "job:created",
            body(event_task={"kind": "No Kind", "input": "{}"}),
            "a kind cannot be named 'No Kind'",
        ),
    ],
)
def test_reason_says_why_a_message_is_no_turn(subject: str, data: bytes, reason: str) -> None:
    """In one line, for whoever reads the dead letter."""
    with pytest.raises(MalformedMessage) as caught:
        decode_turn(subject, data)

    assert str(caught.value) == reason


def test_ending_that_says_again_has_a_report() -> None:
    """Without one, nobody knows when."""
    with pytest.raises(MalformedMessage, match="an ending that says again must have a report"):
        decode_ending("job:again", body("job:again"))


def test_kind_arrives_as_it_was_announced() -> None:
    """With a name that can be one."""
    message = announced_kind(KIND)
    assert (message.subject, message.message_id, decode_kind(message.body)) == (Subject.KIND.value, None, KIND)
    with pytest.raises(MalformedMessage, match="a kind cannot be named 'G'"):
        decode_kind(message.body.replace(b'"greet"', b'"G"'))
    with pytest.raises(MalformedMessage, match="name: Field required"):
        decode_kind(b"{}")


@pytest.mark.parametrize("again", [True, False])
def test_turn_of_a_kind_travels_on_its_subject(*, again: bool) -> None:
    """With its number, its task, and whether an earlier dispatch may have arrived."""
    message = dispatch(JOB, 7, again=again)

    assert (message.subject, message.message_id) == (work_subject("greet"), f"{JOB_ID}:4:7")
    turn = decode_turn(message.subject, message.body)
    assert (turn, turn.again) == (Turn(JOB_ID, JOB_ID, int(CREATED_AT.timestamp()), 4, TASK), again)


def test_ending_of_a_kind_travels_without_its_input() -> None:
    """The api-server has it."""
    report = Report("w", "v1", 1, 2, 3, "1", Failure(Reason.EXCEPTION, "E", "m", "t"), 4, counts=False)
    message = announcement(Ending(JOB.turn, Status.PROCESSING, 1.5, report=report))

    assert (message.subject, message.message_id) == (Subject.AGAIN.value, None)
    ending = decode_ending(message.subject, message.body)
    assert ending.turn.task == Task("greet", "", 2)
    assert (ending.status, ending.sleep_time_used, ending.report) == (Status.PROCESSING, 1.5, report)
