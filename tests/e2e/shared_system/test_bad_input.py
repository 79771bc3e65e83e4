"""Nothing a caller can send makes an error of ours: a 4xx in the contract's shape, each time."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hasty.server.local_stack import Stack
from tests.e2e.client import TOO_SOON, Hasty, message_of, new_object_id, problem_of, refusal
from tests.e2e.stacks import services, tracebacks
from tests.eventually import eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")

BAD_BODIES = {
    "nothing": b"",
    "a blank": b" ",
    "broken": b'{"object_id": "x"',
    "broken in a string": b'{"object_id": "x',
    "trailing": b'{"object_id": "x"} {}',
    "single quotes": b"{'object_id': 'x'}",
    "a form": b"object_id=x",
    "a list": b'["object_id"]',
    "a text": b'"object_id"',
    "a number": b"1",
    "null": b"null",
    "deep lists": b"[" * 30_000,
    "deep lists, closed": b"[" * 30_000 + b"]" * 30_000,
    "deep objects": b'{"object_id":' * 4_000 + b"1" + b"}" * 4_000,
    "deep beside the object": b'{"object_id": "deep", "x": ' + b"[" * 30_000 + b"]" * 30_000 + b"}",
    "Latin-1": '{"object_id": "é"}'.encode("latin-1"),
    "UTF-16": '{"object_id": "x"}'.encode("utf-16"),
    "UTF-32": '{"object_id": "x"}'.encode("utf-32-be"),
    "cut UTF-8": b'{"object_id": "\xf0\x9f\x98"}',
    "bytes": bytes(range(256)),
    "compressed": bytes.fromhex("1f8b0800000000000003ab56ca4fca4a4d2e89cf4c51b252a850aa0500"),
    "NaN": b'{"object_id": NaN}',
    "minus infinity": b'{"object_id": -Infinity}',
    "1e999": b'{"object_id": 1e999}',
    "a huge integer": b'{"object_id": ' + b"9" * 20_000 + b"}",
    "a lone high surrogate": rb'{"object_id": "\ud800"}',
    "a lone low surrogate": rb'{"object_id": "x\udfff"}',
    "surrogates the wrong way round": rb'{"object_id": "\udc00\ud800"}',
    "a surrogate in UTF-8": b'{"object_id": "\xed\xa0\x80"}',
    "a surrogate in a key": rb'{"\ud800": "x"}',
    "NUL": rb'{"object_id": "\u0000"}',
    "NUL at the end": rb'{"object_id": "x\u0000"}',
    "NUL in a key": rb'{"\u0000": "x"}',
    "a bare NUL": b'{"object_id": "\x00"}',
    "a line feed": rb'{"object_id": "a\nb"}',
    "a tabulator": rb'{"object_id": "\t"}',
    "escape": rb'{"object_id": "\u001b[31m"}',
    "delete": rb'{"object_id": "\u007f"}',
    "a C1 control": rb'{"object_id": "\u0085"}',
    "an empty id": b'{"object_id": ""}',
    "257 characters": json.dumps({"object_id": "x" * 257}).encode(),
    "257 wide characters": json.dumps({"object_id": "😀" * 257}).encode(),
    "50,000 characters": json.dumps({"object_id": "x" * 50_000}).encode(),
    "an operator": b'{"object_id": {"$ne": null}}',
    "another operator": b'{"object_id": {"$gt": ""}}',
    "an id of null": b'{"object_id": null}',
    "an id of true": b'{"object_id": true}',
    "a number as id": b'{"object_id": 123}',
    "a list as id": b'{"object_id": ["x"]}',
    "an object as id": b'{"object_id": {}}',
}


@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES.keys())
async def test_a_body_that_is_no_request_is_refused(hasty: Hasty, body: bytes) -> None:
    """400, and a text that says what is wrong."""
    response = await hasty.post(body)

    refusal(response)
    assert response.status_code == 400


@pytest.mark.parametrize(
    "body",
    [b"[" * 100_000, b'{"a":' * 100_000 + b"1" + b"}" * 100_000, b" " * 20 * 2**20, b"x" * (64 * 2**10 + 1)],
    ids=["100,000 lists", "100,000 objects", "20 MiB", "one byte too many"],
)
async def test_a_body_over_64_kib_is_too_large(hasty: Hasty, body: bytes) -> None:
    """413, announced by Content-Length or found out while it comes in chunks."""
    response = await hasty.post(body)
    refusal(response)
    assert response.status_code == 413

    chunk = b"%x\r\n%b\r\n" % (len(body), body)
    answer = await hasty.raw(b"POST / HTTP/1.1\r\nHost: hasty\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk)
    # A server may close on a sender that goes on; it may not answer anything else.
    if answer is not None:
        message_of(answer.status, answer.headers["content-type"], answer.body)
        assert answer.status == 413


async def test_a_body_of_64_kib_is_read(hasty: Hasty) -> None:
    """The limit itself is within the limit."""
    body = json.dumps({"object_id": new_object_id()}).encode().ljust(64 * 2**10)

    response = await hasty.post(body)

    assert response.status_code == 201, response.text


BAD_REQUESTS = {
    "a job id of 10,000 characters": b"GET /" + b"x" * 10_000,
    "a job id of 100,000 characters": b"GET /" + b"x" * 100_000,
    "%00": b"GET /%00",
    "%00 within": b"GET /abc%00def",
    "..": b"GET /..",
    "../..": b"GET /../../etc/passwd",
    "%2e%2e": b"GET /%2e%2e",
    "%2e%2e%2f": b"GET /%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "an encoded slash": b"GET /a%2Fb",
    "a broken escape": b"GET /%zz",
    "an unfinished escape": b"GET /%",
    "no UTF-8": b"GET /%ff%fe",
    "an encoded surrogate": b"GET /%ed%a0%80",
    "raw bytes": b"GET /\xff\xfe",
    "an encoded line feed": b"GET /a%0d%0aSet-Cookie:%20a=b",
    "control characters": b"GET /%01%1b%7f",
    "a query": b"GET /?object_id=x",
    "a whole address": b"GET http://elsewhere/x",
    "no slash": b"GET x",
    "no path": b"GET  ",
    "a tabulator": b"GET /\tx",
    "no such method": b"BREW /",
    "TRACE": b"TRACE /",
    "CONNECT": b"CONNECT hasty:80",
    "lower case": b"get /x",
    "PRI": b"PRI *",
    "an asterisk": b"OPTIONS *",
}


@pytest.mark.parametrize("start", BAD_REQUESTS.values(), ids=BAD_REQUESTS.keys())
async def test_a_request_line_that_leads_nowhere_is_refused(hasty: Hasty, start: bytes) -> None:
    """A 4xx in the contract's shape, whoever of us gives it."""
    answer = await hasty.raw(start + b" HTTP/1.1\r\nHost: hasty\r\nConnection: close\r\n\r\n")

    assert answer is not None, "closed without an answer"
    message_of(answer.status, answer.headers.get("content-type"), answer.body)


BAD_HEADS = {
    "no host": b"GET /x HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /x HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "a bad host": b"GET /x HTTP/1.1\r\nHost: a b/\r\n\r\n",
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "a version of the future": b"GET /x HTTP/9.9\r\nHost: a\r\n\r\n",
    "a negative length": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    "a length of words": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: ten\r\n\r\n",
    "an endless length": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: " + b"9" * 40 + b"\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "a length and chunks": (
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    ),
    "broken chunks": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    "a huge header": b"GET /x HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
    "many headers": b"GET /x HTTP/1.1\r\nHost: a\r\n" + b"X-A: b\r\n" * 5_000 + b"\r\n",
    "NUL in a header": b"GET /x HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n",
    "a control character in a header": b"GET /x HTTP/1.1\r\nHost: a\r\nX: a\x01b\r\n\r\n",
    "more headers than 100": b"GET /x HTTP/1.1\r\nHost: a\r\n" + b"X-A: b\r\n" * 110 + b"\r\n",
    "a GET with a body": b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}",
}


@pytest.mark.parametrize("request_bytes", BAD_HEADS.values(), ids=BAD_HEADS.keys())
async def test_bytes_that_are_hardly_http_are_refused(hasty: Hasty, request_bytes: bytes) -> None:
    """A 4xx in the contract's shape: no 501 and no 505 of the web server's own."""
    answer = await hasty.raw(request_bytes)

    assert answer is not None, "closed without an answer"
    message_of(answer.status, answer.headers.get("content-type"), answer.body)


@pytest.mark.parametrize("request_bytes", BAD_HEADS.values(), ids=BAD_HEADS.keys())
async def test_bytes_that_are_hardly_http_get_a_problem_in_v1(hasty: Hasty, request_bytes: bytes) -> None:
    """Where the path can be read: nobody who asks there has to know the original's shape."""
    asked = request_bytes.replace(b" / HTTP", b" /x HTTP").replace(b" /x HTTP", b" /v1/x HTTP")

    answer = await hasty.raw(asked)

    assert answer is not None, "closed without an answer"
    if asked == request_bytes or b"HTTP/9.9" in asked:
        message_of(answer.status, answer.headers.get("content-type"), answer.body)
    else:
        problem_of(answer.status, answer.headers.get("content-type"), answer.body)


@pytest.mark.own_stack
async def test_own_port_answers_with_problems_in_v1(shared_stack: Stack) -> None:
    """As nginx does, which usually refuses such requests before."""
    for api_server in services(shared_stack, "api-server"):
        async with Hasty.at(f"http://127.0.0.1:{api_server.port}") as direct:
            answer = await direct.raw(b"GET /v1/x HTTP/1.1\r\nHost\r\n\r\n")

        assert answer is not None, "closed without an answer"
        assert problem_of(answer.status, answer.headers["content-type"], answer.body) == "the request is not valid HTTP"


async def test_a_body_cut_short_makes_no_job(hasty: Hasty) -> None:
    """A caller that hangs up in the middle is no error of ours, and no job."""
    object_id = new_object_id()
    body = json.dumps({"object_id": object_id}).encode()
    head = b"POST / HTTP/1.1\r\nHost: hasty\r\nContent-Length: %d\r\n\r\n" % (len(body) + 10)

    answer = await hasty.raw(head + body, half_close=True)

    if answer is not None:
        message_of(answer.status, answer.headers.get("content-type"), answer.body)
    assert (await hasty.ask(object_id)).status_code == 201


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text() | st.just("object_id"), children),
    max_leaves=20,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=200) | json_values.map(lambda value: json.dumps(value).encode()))
async def test_no_body_makes_an_error_of_ours(hasty: Hasty, body: bytes) -> None:
    """Whatever the bytes are: a job or a refusal."""
    response = await hasty.post(body)

    if response.status_code != 201 and response.content != TOO_SOON:
        refusal(response)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(object_id=st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=256))
async def test_every_valid_id_is_accepted_and_comes_back(hasty: Hasty, object_id: str) -> None:
    """The rules for object ids refuse nothing that they allow."""
    response = await hasty.ask(object_id)

    assert response.status_code == 201 or response.content == TOO_SOON, response.text
    assert (await hasty.job(response.headers["location"].removeprefix("/")))["object_id"] == object_id


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.binary(max_size=60).map(lambda raw: "".join(f"%{byte:02x}" for byte in raw)))
async def test_no_path_makes_an_error_of_ours(hasty: Hasty, path: str) -> None:
    """Whatever the escaped bytes are: a refusal."""
    answer = await hasty.raw(f"GET /{path} HTTP/1.1\r\nHost: hasty\r\nConnection: close\r\n\r\n".encode())

    assert answer is not None
    message_of(answer.status, answer.headers.get("content-type"), answer.body)


@pytest.mark.own_stack
async def test_no_log_holds_a_traceback_after_all_this(hasty: Hasty, shared_stack: Stack) -> None:
    """A refusal is an answer, not an accident."""
    await hasty.post(b"\xff")
    job_id = await hasty.create()
    await hasty.finished([job_id])

    assert tracebacks(shared_stack) == []
    assert {name: child.exits for name, child in shared_stack.children.items() if child.exits} == {}
    await eventually(lambda: all(child.pid for child in shared_stack.children.values()))
