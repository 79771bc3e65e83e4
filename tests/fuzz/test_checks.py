"""The fuzzer objects to servers that answer wrongly: each of these does it in one way."""

import asyncio
import json
from random import Random

import pytest

from tests.fuzz import conversation
from tests.fuzz.conversation import Conversation, End, Violation, hold, plan
from tests.fuzz.messages import V1, Jobs, Message
from tests.fuzz.mutations import mutate

MADE, OTHER, NEW = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222", "3" * 36
GET_MADE = Message(f"GET /{MADE} HTTP/1.1\r\n\r\n".encode(), 200, object_id="x", job_id=MADE)
GET_TOKEN = Message(b"GET /token HTTP/1.1\r\n\r\n", 400, "no job with id: token")
POST = Message(b"POST / HTTP/1.1\r\n\r\n", 201, object_id="y")


def answer(status: int, message: object, more: str = "") -> bytes:
    """Write an answer as it travels."""
    body = json.dumps({"message": message})
    head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n{more}content-length: {len(body)}\r\n\r\n"
    return (head + body).encode()


def shown(job_id: str, object_id: str) -> bytes:
    """Write the answer that shows a job."""
    return answer(200, {"id": job_id, "job_id": job_id, "object_id": object_id})


def made(job_id: str) -> bytes:
    """Write the answer to a job that was made."""
    return answer(201, {"job_id": job_id}, f"location: /{job_id}\r\n")


def v1(status: int, document: object, more: str = "", kind: str = "application/json") -> bytes:
    """Write an answer of `/v1`."""
    body = json.dumps(document)
    head = f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\n{more}content-length: {len(body)}\r\n\r\n"
    return (head + body).encode()


def job(job_id: str, object_id: str) -> dict[str, object]:
    """A job as `/v1` shows it."""
    return {"id": job_id, "input": {"object_id": object_id}}


def problem(name: str, status: int, detail: str = "") -> bytes:
    """Write a refusal of `/v1`."""
    document = {"type": f"urn:hasty:problem:{name}", "title": "t", "status": status, "detail": detail}
    return v1(status, document, kind="application/problem+json")


V1_READ = Message(f"GET /v1/jobs/{MADE} HTTP/1.1\r\n\r\n".encode(), 200, job_id=MADE, v1=V1("job", objects=("x",)))
V1_POST = Message(b"POST /v1/jobs HTTP/1.1\r\n\r\n", 201, v1=V1("job", objects=("y",)))
V1_BATCH = Message(b"POST /v1/batches HTTP/1.1\r\n\r\n", 200, v1=V1("batch", objects=("y", None)))
V1_LIST = Message(b"GET /v1/jobs HTTP/1.1\r\n\r\n", 200, v1=V1("list"))
V1_BAD = Message(b"POST /v1/jobs HTTP/1.1\r\n\r\n", 422, v1=V1("problem", ("bad-input",)))
V1_STREAM = Message(b"GET /v1/jobs HTTP/1.1\r\n\r\n", 200, v1=V1("stream"))
AT_NEW = f"location: /v1/jobs/{NEW}\r\n"
MEMBER, NO_MEMBER = {"status": 201, "job": job(NEW, "y")}, {"status": 422, "problem": {}}
EVENTS = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n5\r\n"
NO_TOKEN = answer(400, "no job with id: token")


async def held(messages: list[Message], answers: bytes, *, mutated: bool = False) -> int:
    """Hold a conversation with a server that gives these answers, whatever it is asked, and closes."""

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.write(answers)
        writer.close()

    jobs = Jobs("test")
    jobs.add(MADE, "x")
    jobs.add(OTHER, "z")
    pieces = [(one.data, 0.0) for one in messages]
    asked = Conversation([] if mutated else messages, pieces, End.HALF_CLOSE, mutated)
    async with await asyncio.start_server(respond, "127.0.0.1", 0) as server:
        return await hold(asked, server.sockets[0].getsockname()[1], jobs, proxied=False)


async def test_right_answers_are_accepted() -> None:
    """In their order, announcements apart."""
    answers = shown(MADE, "x") + NO_TOKEN + b"HTTP/1.1 100 Continue\r\n\r\n" + made(NEW)
    assert await held([GET_MADE, GET_TOKEN, POST], answers) == 3
    assert await held([GET_MADE, GET_TOKEN, POST], answers, mutated=True) == 3


@pytest.mark.parametrize(
    ("answers", "problem"),
    [
        (NO_TOKEN + shown(MADE, "x") + made(NEW), "answer 1: status 400 instead of 200"),
        (shown(OTHER, "z") + NO_TOKEN + made(NEW), f"'{OTHER}', 'z'.* instead of {MADE} of x"),
        (shown(MADE, "z") + NO_TOKEN + made(NEW), "'z'.* instead of .* of x"),
        (shown(MADE, "x") + answer(400, "no job with id: other") + made(NEW), "answer 2: .*other.* instead of"),
        (shown(MADE, "x") + NO_TOKEN + made(OTHER), "was made for z before, now for y"),
        (shown(MADE, "x") + NO_TOKEN, "2 answers to 3 valid requests"),
        (shown(MADE, "x") + NO_TOKEN + made(NEW) + NO_TOKEN, "4 answers to 3 valid requests"),
        (shown(MADE, "x") + NO_TOKEN + made(NEW)[:-1], "2 answers to 3"),
        (b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 1\r\n\r\nx", "not JSON"),
        (b"garbage\r\n\r\n", "no status line"),
    ],
    ids=["order", "other job", "object", "other id", "job twice", "missing", "surplus", "torn", "no JSON", "no HTTP"],
)
async def test_wrong_answers_are_violations(answers: bytes, problem: str) -> None:
    """Requests were valid, so every answer is known."""
    with pytest.raises(Violation, match=problem):
        await held([GET_MADE, GET_TOKEN, POST], answers)


@pytest.mark.parametrize(
    ("answers", "problem"),
    [
        (answer(500, "something went wrong"), "status 500"),
        (shown(OTHER, "z"), "was never asked for here"),
        (shown(MADE, "z"), "is of x, not of z"),
        (answer(400, "no job with id: 12345678"), "was never asked for here"),
        (made(OTHER), "was made before"),
        (made(NEW)[:-1], "ended within an answer"),
    ],
    ids=["5xx", "other job", "object", "other id", "job twice", "torn"],
)
async def test_impossible_answers_are_violations(answers: bytes, problem: str) -> None:
    """Requests were mutated: nobody knows what they ask, but some answers fit nothing that was sent."""
    with pytest.raises(Violation, match=problem):
        await held([GET_MADE, GET_TOKEN, POST], answers, mutated=True)


@pytest.mark.parametrize(
    ("asked", "answers"),
    [
        (V1_READ, v1(200, job(MADE, "x"))),
        (V1_POST, v1(201, job(NEW, "y"), AT_NEW)),
        (V1_BATCH, v1(200, {"id": "b", "results": [MEMBER, NO_MEMBER]})),
        (V1_LIST, v1(200, {"data": [], "next": "n"})),
        (V1_BAD, problem("bad-input", 422)),
        (V1_STREAM, EVENTS),
    ],
    ids=["read", "made", "batch", "list", "problem", "stream"],
)
async def test_right_answers_of_v1_are_accepted(asked: Message, answers: bytes) -> None:
    """Also of a stream that is broken off."""
    assert await held([asked], answers) == 1
    assert await held([asked], answers, mutated=True) == 1


@pytest.mark.parametrize(
    ("asked", "answers", "wrong"),
    [
        (V1_READ, v1(200, job(OTHER, "z")), f"'{OTHER}', 'z'.* instead of {MADE} of x"),
        (V1_READ, v1(200, job(MADE, "z")), "'z'.* instead of .* of x"),
        (V1_READ, shown(MADE, "x"), "not in the shape of /v1"),
        (GET_MADE, v1(200, job(MADE, "x")), "not in the contract's shape"),
        (V1_POST, v1(201, job(NEW, "z"), AT_NEW), "instead of a job of y"),
        (V1_POST, v1(201, job(NEW, "y"), "location: /x\r\n"), "location /x beside job"),
        (V1_POST, v1(201, job(OTHER, "y"), f"location: /v1/jobs/{OTHER}\r\n"), "was made for z before, now for y"),
        (V1_BATCH, v1(200, {"id": "b", "results": [MEMBER]}), "members .201. of a batch"),
        (V1_BATCH, v1(200, {"id": "b", "results": [NO_MEMBER, MEMBER]}), "members .422, 201. of a batch"),
        (V1_BAD, problem("malformed", 422), "problem 'malformed' instead of"),
        (V1_BAD, answer(422, "no"), "not in the shape of /v1"),
        (V1_BAD, problem("bad-input", 400), "status 400 instead of 422"),
        (V1_BAD, problem("bad-input", 422).replace(b"HTTP/1.1 422", b"HTTP/1.1 400"), "no problem with status 400"),
        (V1_LIST, EVENTS, "text/event-stream instead of list"),
        (V1_STREAM, v1(200, {"data": [], "next": None}), "application/json instead of stream"),
    ],
)
async def test_wrong_answers_of_v1_are_violations(asked: Message, answers: bytes, wrong: str) -> None:
    """Another job, another dialect, another problem, or a stream where none was asked for."""
    with pytest.raises(Violation, match=wrong):
        await held([asked], answers)


@pytest.mark.parametrize(
    ("asked", "answers", "wrong"),
    [
        (V1_READ, problem("internal-error", 500), "status 500"),
        (V1_READ, v1(200, job(OTHER, "z")), "was never asked for here"),
        (V1_READ, v1(200, job(MADE, "z")), "is of x, not of z"),
        (V1_READ, problem("no-such-job", 404, "no job with id: 12345678"), "was never asked for here"),
        (V1_POST, v1(201, job(OTHER, "z")), "was made before"),
        (GET_MADE, v1(200, job(MADE, "x")), "not in the contract's shape"),
    ],
    ids=["5xx", "other job", "object", "other id", "job twice", "dialect"],
)
async def test_impossible_answers_of_v1_are_violations(asked: Message, answers: bytes, wrong: str) -> None:
    """The same as for the original contract."""
    with pytest.raises(Violation, match=wrong):
        await held([asked], answers, mutated=True)


async def test_server_that_never_answers_is_a_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a missing answer nor a connection that stays open goes unnoticed."""
    monkeypatch.setattr(conversation, "ANSWERED_WITHIN_S", 0.2)
    silent = asyncio.Event()

    async def ignore(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await silent.wait()
        writer.close()

    async with await asyncio.start_server(ignore, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        for end in (End.CLOSE, End.HALF_CLOSE):
            asked = Conversation([GET_TOKEN], [(GET_TOKEN.data, 0.0)], end, mutated=False)
            with pytest.raises(Violation, match="0 answers, and then nothing"):
                await hold(asked, port, Jobs("test"), proxied=False)
        silent.set()


def test_same_seed_gives_the_same_conversations() -> None:
    """With the same jobs known; another seed gives others."""
    one, same, other = ([plan(Random(f"{seed}/{number}"), Jobs("run")) for number in range(50)] for seed in (7, 7, 8))
    assert one == same
    assert one != other
    assert {conversation.mutated for conversation in one} == {True, False}
    assert {conversation.end for conversation in one} == set(End)
    assert {request.v1 is None for conversation in one for request in conversation.valid} == {True, False}
    streams = [conversation for conversation in one if any(request.is_stream for request in conversation.valid)]
    assert streams
    assert all(conversation.end is not End.HALF_CLOSE and not conversation.mutated for conversation in streams)


def test_mutations_change_requests() -> None:
    """Nearly always: a change may undo another one."""
    changed = [mutate(Random(number), GET_MADE.data) != GET_MADE.data for number in range(500)]
    assert sum(changed) > 450
