"""The contract with a caller, answer by answer and byte for byte."""

import asyncio
import json
import re
import shutil
import time
import uuid

import httpx
import pytest

from tests.e2e.client import ENDS_WITHIN_S, TOO_SOON, Hasty, new_object_id, refusal

pytestmark = pytest.mark.asyncio(loop_scope="session")

UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"


async def curl(*arguments: str) -> httpx.Response:
    """What the real curl receives for these arguments."""
    program = shutil.which("curl")
    assert program, "this test runs the command 'curl' and cannot find it: install curl"
    process = await asyncio.create_subprocess_exec(
        program, "--silent", "--include", "--max-time", "20", *arguments, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, (process.returncode, output)
    head, _, body = output.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    return httpx.Response(int(first.split()[1]), headers=headers, content=body)


async def test_a_posted_object_is_answered_with_its_job(hasty: Hasty) -> None:
    """201, the job's id and where it is found."""
    response = await hasty.ask(new_object_id())

    assert response.status_code == 201
    assert response.headers["content-type"] == "application/json"
    match = re.fullmatch(rf'\{{"message":\{{"job_id":"({UUID})"\}}\}}', response.text)
    assert match, response.text
    assert response.headers["location"] == f"/{match[1]}"
    assert "retry-after" not in response.headers


async def test_the_location_leads_to_the_job(hasty: Hasty) -> None:
    """A caller that follows Location gets the job it made."""
    object_id = new_object_id()
    created = await hasty.ask(object_id)

    response = await hasty.http.get(created.headers["location"])

    assert response.json()["message"]["object_id"] == object_id


async def test_the_same_object_is_refused_within_five_minutes(hasty: Hasty) -> None:
    """400 with the original's text; headers name the job still in cooldown and the seconds left."""
    object_id = new_object_id()
    job_id = await hasty.create(object_id)

    response = await hasty.ask(object_id)

    assert response.status_code == 400
    assert response.headers["content-type"] == "application/json"
    assert response.content == TOO_SOON
    assert response.headers["location"] == f"/{job_id}"
    assert re.fullmatch(r"[0-9]+", response.headers["retry-after"])
    assert 280 <= int(response.headers["retry-after"]) <= 300


async def test_a_finished_job_still_holds_its_place(hasty: Hasty) -> None:
    """The five minutes count from the job's creation, not from its end."""
    object_id = new_object_id()
    job_id = await hasty.create(object_id)
    await hasty.finished([job_id])

    response = await hasty.ask(object_id)

    assert (response.status_code, response.content) == (400, TOO_SOON)
    assert response.headers["location"] == f"/{job_id}"


@pytest.mark.parametrize("body", [b"{}", b'{"object": "x"}', b'{"OBJECT_ID": "x"}', b' {"a": "b"}\n'])
async def test_an_object_id_must_be_given(hasty: Hasty, body: bytes) -> None:
    """400 with the original's text."""
    response = await hasty.post(body)

    assert response.status_code == 400
    assert response.headers["content-type"] == "application/json"
    assert response.content == b'{"message":"you must provide an object_id"}'


async def test_a_job_is_shown_with_all_it_has(hasty: Hasty) -> None:
    """200 and the original's six fields, in the original's order."""
    object_id = new_object_id()
    before = int(time.time())
    job_id = await hasty.create(object_id)
    after = int(time.time())

    response = await hasty.get(job_id)

    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    job = response.json()["message"]
    assert list(job) == ["id", "job_id", "object_id", "status", "timestamp", "sleep_time_used"]
    assert response.text == json.dumps({"message": job}, separators=(",", ":"), ensure_ascii=False)
    assert job["id"] == job["job_id"] == job_id
    assert job["object_id"] == object_id
    assert job["status"] in {"processing", "finished"}
    # Another machine's clock may differ from this one's by a little.
    assert before - 2 <= job["timestamp"] <= after + 2
    assert type(job["timestamp"]) is int


async def test_a_job_ends_finished_and_keeps_what_it_was(hasty: Hasty) -> None:
    """Only the status and the sleep change; both stay for ever after."""
    job_id = await hasty.create()
    first = await hasty.job(job_id)

    [ended] = await hasty.finished([job_id])

    assert ended["status"] == "finished"
    changed = {"status": "finished", "sleep_time_used": ended["sleep_time_used"]}
    assert ended == first | changed
    assert await hasty.job(job_id) == ended


@pytest.mark.parametrize("job_id", ["non-existing-job", "0", str(uuid.UUID(int=7)), "a" * 300, "$ne", "job:created"])
async def test_an_unknown_job_is_named(hasty: Hasty, job_id: str) -> None:
    """400 with the original's text."""
    response = await hasty.get(job_id)

    assert response.status_code == 400
    assert response.headers["content-type"] == "application/json"
    assert response.content == b'{"message":"no job with id: %b"}' % job_id.encode()


@pytest.mark.parametrize("path", ["/a/b", "/a/", "/a/b/c?d=e", f"/{uuid.UUID(int=7)}/status"])
async def test_a_path_that_does_not_exist_is_not_found(hasty: Hasty, path: str) -> None:
    """404 in the contract's shape, for every method."""
    for method in ("GET", "POST"):
        response = await hasty.http.request(method, path)

        assert response.status_code == 404, (method, response.text)
        refusal(response)


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/"), ("PUT", "/"), ("DELETE", "/"), ("PATCH", "/"), ("POST", "/x"), ("PUT", "/x"), ("DELETE", "/x")],
)
async def test_a_method_that_is_not_offered_is_refused(hasty: Hasty, method: str, path: str) -> None:
    """405 in the contract's shape, naming the method that is offered."""
    response = await hasty.http.request(method, path)

    assert response.status_code == 405
    refusal(response)
    assert ("POST" if path == "/" else "GET") in response.headers["allow"]


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/docs", "/openapi.json", "/redoc"])
async def test_what_is_not_for_callers_is_not_passed_on(hasty: Hasty, path: str) -> None:
    """Probes, metrics and generated pages stay on the services' own ports."""
    refusal(await hasty.http.get(path))


async def test_curl_without_a_content_type_is_understood(hasty: Hasty) -> None:
    """The original's README posts with a bare `curl -d`, which calls the body a form."""
    object_id = new_object_id()

    created = await curl("-d", json.dumps({"object_id": object_id}), hasty.url)
    refused = await curl("-d", json.dumps({"object_id": object_id}), hasty.url)
    shown = await curl(hasty.url + created.headers["location"])

    assert created.status_code == 201
    assert re.fullmatch(rf'\{{"message":\{{"job_id":"{UUID}"\}}\}}', created.text)
    assert (refused.status_code, refused.content) == (400, TOO_SOON)
    assert refused.headers["location"] == created.headers["location"]
    assert shown.json()["message"]["object_id"] == object_id


@pytest.mark.parametrize(
    "content_type", ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x", "", "¿"]
)
async def test_the_body_is_json_whatever_it_is_called(hasty: Hasty, content_type: str) -> None:
    """The content type decides nothing."""
    body = json.dumps({"object_id": new_object_id()}).encode()

    response = await hasty.http.post("/", content=body, headers=[(b"Content-Type", content_type.encode())])

    assert response.status_code == 201, response.text


async def test_a_body_without_a_content_type_is_json(hasty: Hasty) -> None:
    """No header at all, and a body in chunks besides."""
    body = json.dumps({"object_id": new_object_id()}).encode()
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"

    answer = await hasty.raw(b"POST / HTTP/1.1\r\nHost: hasty\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)

    assert answer is not None
    assert answer.status == 201, answer


@pytest.mark.parametrize(
    "object_id",
    [
        "x",
        "y" * 256,
        "😀" * 256,
        "$ne",
        "$where: sleep(1000)",
        "a.b.*.>",
        "../../etc/passwd",
        "job:created",
        "%00%0d%0a",
        '"}{"',
        "\u2028 ",
        "ünïcödé é",
        "' OR 1=1 --",
    ],
)
async def test_any_text_is_an_object_id(hasty: Hasty, object_id: str) -> None:
    """It comes back as it was sent, and its job runs: it is data and never a part of anything else."""
    # A system that many tests share may have seen it already; then the refusal names its job.
    response = await hasty.ask(object_id)

    assert response.status_code == 201 or (response.status_code, response.content) == (400, TOO_SOON), response.text
    [job] = await hasty.finished([response.headers["location"].removeprefix("/")], within_s=ENDS_WITHIN_S)
    assert job["object_id"] == object_id


async def test_object_ids_differ_by_every_character(hasty: Hasty) -> None:
    """No trimming, no case folding, no Unicode normalisation joins two objects."""
    name = new_object_id()

    for object_id in (name, name.upper(), f" {name}", f"{name} ", f"{name}\u00e9", f"{name}e\u0301"):
        assert (await hasty.ask(object_id)).status_code == 201
