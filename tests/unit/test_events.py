"""What travels between the services, and what is not understood."""

import json
import unicodedata
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hasty.jobs import (
    KIND_NAME,
    Ending,
    Failure,
    Job,
    Reason,
    Report,
    Status,
    Task,
    Turn,
    object_id_problem,
    whole,
)
from hasty.server.messaging.events import (
    ENDING_SUBJECTS,
    MalformedMessage,
    Subject,
    announcement,
    decode_ending,
    decode_turn,
    dispatch,
)

valid_text = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=256)
seconds = st.integers(0, 10**6) | st.floats(0, 10**6, allow_nan=False)
turns = st.builds(Turn, st.uuids().map(str), valid_text, st.integers(0, 2**53 - 1))
endings = st.builds(Ending, turns, st.sampled_from([Status.FINISHED, Status.CANCELLED]), seconds)


@given(endings)
def test_an_event_arrives_as_it_was_sent(ending: Ending) -> None:
    """In the original's shape, with its fields in their order."""
    event = announcement(ending)

    assert event.subject == ENDING_SUBJECTS[ending.status].value
    assert decode_ending(event.subject, event.body) == ending
    assert decode_turn(event.subject, event.body) == ending.turn
    turn = ending.turn
    assert json.loads(event.body) == {
        "subject": event.subject,
        "job": {
            "id": turn.job_id,
            "job_id": turn.job_id,
            "object_id": turn.object_id,
            "status": ending.status.value,
            "timestamp": turn.timestamp,
            "sleep_time_used": whole(ending.sleep_time_used),
        },
    }
    assert list(json.loads(event.body)["job"]) == [
        "id",
        "job_id",
        "object_id",
        "status",
        "timestamp",
        "sleep_time_used",
    ]


names = st.from_regex(KIND_NAME, fullmatch=True)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
tasks = st.builds(
    Task,
    names,
    texts,
    attempt=st.integers(1, 9),
    attempts=st.none() | st.integers(1, 9),
    labels=st.lists(texts, max_size=2).map(tuple),
    versions=st.lists(texts, max_size=2).map(tuple),
)
failures = st.builds(Failure, st.sampled_from(Reason), texts, texts, texts)
reports = st.builds(
    Report,
    texts,
    texts,
    seconds,
    seconds,
    run=st.integers(0, 9),
    output=st.none() | texts,
    failure=st.none() | failures,
    delay_s=seconds,
    counts=st.booleans(),
)
jobs = st.builds(
    Job,
    st.uuids().map(str),
    valid_text,
    st.integers(0, 9),
    st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - it says so itself
    turn_number=st.integers(1, 9),
    task=tasks,
)


@given(jobs, st.booleans())
def test_a_turn_of_a_handler_arrives_as_it_was_sent(job: Job, again: bool) -> None:  # noqa: FBT001 - drawn
    """With all that the handler needs."""
    event = dispatch(job, 1, again=again)

    turn = decode_turn(event.subject, event.body)
    assert (turn, turn.again) == (job.turn, again)


@given(jobs, reports, st.sampled_from(list(ENDING_SUBJECTS)))
def test_an_ending_of_a_handler_arrives_as_it_was_sent(job: Job, report: Report, status: Status) -> None:
    """With its report, and of the task what is not known without it."""
    event = announcement(Ending(job.turn, status, 0, report=report))

    arrived = decode_ending(event.subject, event.body)
    assert job.task is not None
    task = Task(job.task.kind, "", job.task.attempt)
    assert arrived == Ending(replace(job.turn, task=task), status, 0, report=report)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["subject", "job", "job_id"]), inner),
    max_leaves=8,
)


@given(subject=st.sampled_from(Subject), data=st.binary() | json_values.map(lambda value: json.dumps(value).encode()))
def test_anything_else_is_not_understood(subject: Subject, data: bytes) -> None:
    """And nothing but that: no other error may reach the reader."""
    with pytest.raises(MalformedMessage):
        decode_turn(subject, data)


@given(ending=endings, data=st.data())
def test_an_event_with_one_wrong_field_is_not_understood(ending: Ending, data: st.DataObject) -> None:
    """Of another type, or missing."""
    subject = ENDING_SUBJECTS[ending.status]
    body = json.loads(announcement(ending).body)
    field = data.draw(st.sampled_from(sorted(body["job"])))
    wrong = data.draw(json_values.filter(lambda value: type(value) not in {str, int, float}))
    if data.draw(st.booleans()):
        body["job"][field] = wrong
    else:
        del body["job"][field]

    with pytest.raises(MalformedMessage):
        decode_turn(subject, json.dumps(body).encode())


@given(ending=endings, other=st.sampled_from(Subject))
def test_an_event_of_another_subject_is_not_understood(ending: Ending, other: Subject) -> None:
    """Whether the envelope says so, or the job's status."""
    subject = ENDING_SUBJECTS[ending.status]
    body = json.loads(announcement(ending).body)
    if other is not subject:
        with pytest.raises(MalformedMessage):
            decode_turn(other, json.dumps(body).encode())
        with pytest.raises(MalformedMessage):
            decode_turn(other, json.dumps(body | {"subject": other.value}).encode())
        with pytest.raises(MalformedMessage):
            decode_turn(subject, json.dumps(body | {"subject": other.value}).encode())


@pytest.mark.parametrize(
    "changes",
    [
        {"job_id": "x"},
        {"job_id": "00000000-0000-0000-0000-000000000001"},
        {"id": "00000000-0000-0000-0000-00000000000G"},
        {"object_id": ""},
        {"object_id": "x" * 257},
        {"object_id": "\x00"},
        {"timestamp": -1},
        {"timestamp": 2**53},
        {"timestamp": 1.5},
        {"sleep_time_used": -1},
        {"sleep_time_used": True},
        {"status": "finished"},
    ],
)
def test_an_event_that_cannot_be_is_not_understood(changes: dict[str, object]) -> None:
    """The types are right and the values are not."""
    job_id = "00000000-0000-0000-0000-000000000000"
    good = {"id": job_id, "job_id": job_id, "object_id": "x", "status": "processing"}
    good |= {"timestamp": 1, "sleep_time_used": 0}  # type: ignore[dict-item]  # a job has more than texts
    decode_turn("job:created", json.dumps({"subject": "job:created", "job": good}).encode())

    with pytest.raises(MalformedMessage):
        decode_turn("job:created", json.dumps({"subject": "job:created", "job": good | changes}).encode())


@given(st.binary(min_size=400) | st.text(st.characters(exclude_categories=["Cs"]), min_size=400).map(str.encode))
def test_the_reason_does_not_repeat_the_message(data: bytes) -> None:
    """It goes into logs: it is one short line, whatever was sent."""
    with pytest.raises(MalformedMessage) as caught:
        decode_turn("job:created", data)

    reason = str(caught.value)
    assert 0 < len(reason) < 300
    assert reason.isprintable()


@given(st.text(st.characters()) | st.text(st.characters(categories=["Cc", "Cs", "Zl", "Zp", "Cf"]), max_size=3))
def test_object_id_is_text_without_controls_and_lone_surrogates(text: str) -> None:
    """Of 1 to 256 characters; what is wrong is said in words."""
    controls = any(unicodedata.category(character) in {"Cc", "Cs"} for character in text)

    assert (object_id_problem(text) is None) == (1 <= len(text) <= 256 and not controls)


@pytest.mark.parametrize(("length", "is_good"), [(0, False), (1, True), (256, True), (257, False)])
def test_the_length_of_an_object_id_counts_characters(length: int, is_good: bool) -> None:  # noqa: FBT001 - a column of the table
    """Not bytes."""
    assert (object_id_problem("😀" * length) is None) == is_good
