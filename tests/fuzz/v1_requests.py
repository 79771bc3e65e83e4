"""Valid requests of `/v1` in many forms, each with the answer that it must get."""

import json
import uuid
from collections.abc import Callable
from random import Random
from typing import Any, Final
from urllib.parse import quote

from tests.fuzz.messages import V1, Jobs, Message, written

_BAD_JOBS: Final = (
    (b"", 400, "malformed"),
    (b"[]", 400, "malformed"),
    (b'{"input": {}}', 400, "malformed"),
    (b'{"kind": "sleep"}', 400, "malformed"),
    (b'{"kind": "sleep", "input": {}, "x": 1}', 400, "malformed"),
    (b'{"kind": "sleep", "input": {"object_id": NaN}}', 400, "malformed"),
    (b'{"kind": "sleep", "input": {}}', 422, "bad-input"),
    (b'{"kind": "sleep", "input": {"object_id": 5}}', 422, "bad-input"),
    (b'{"kind": "sleep", "input": {"object_id": "x"}, "attempts": 2}', 422, "bad-input"),
    (b'{"kind": "no_such_kind", "input": {}}', 422, "unknown-kind"),
)
_FILTERS: Final = ("kind=sleep", "status=finished", "status=processing", "label=x", "limit=1", "limit=100")
_BAD_FILTERS: Final = ("limit=0", "limit=x", "status=ended", "since=5", "after=x", "x=y", "kind=a&kind=b", "batch=x")
_SHOWN: Final = ("/v1/kinds", "/v1/workers", "/v1/overview", "/v1/dead-letters", "/v1/openapi.json")
_NO_SUCH_PATHS: Final = ("/v1/x", "/v1/jobs/a/b", "/v1/kinds/x", "/v1//jobs")


def message(rng: Random, jobs: Jobs) -> Message:
    """Return some valid request; some are refused, each with its own problem."""
    make: Callable[[Random, Jobs], Message] = rng.choices(
        [_create, _bad_job, _read, _unknown, _list, _bad_list, _batch, _bad_batch, _read_batch, _act, _show, _nowhere],
        [6, 4, 6, 3, 5, 2, 3, 1, 2, 4, 2, 2],
    )[0]
    return make(rng, jobs)


def stream(rng: Random, jobs: Jobs) -> Message:
    """Return a request for an event stream: of a job, of the list, or of the overview."""
    job_id = jobs.any(rng)
    job = [] if job_id is None else [f"/v1/jobs/{job_id}"] * 2
    target = rng.choice(["/v1/jobs", "/v1/jobs?kind=sleep", "/v1/overview", *job])
    return Message(written(rng, "GET", target, more=["Accept: text/event-stream"]), 200, v1=V1("stream"))


def _refused(data: bytes, status: int, problem: str, text: str | None = None) -> Message:
    return Message(data, status, text, v1=V1("problem", (problem,)))


def _job(object_id: str) -> dict[str, Any]:
    return {"kind": "sleep", "input": {"object_id": object_id}}


def _create(rng: Random, jobs: Jobs) -> Message:
    object_id = jobs.new_object_id(rng)
    more = [f"Idempotency-Key: {jobs.new_object_id(rng)}"] if rng.random() < 0.2 else []
    target = rng.choice(["/v1/jobs", "/v1/jobs", "/v1/jobs?wait=0", "/v1/jobs?wait=1"])
    data = written(rng, "POST", target, json.dumps(_job(object_id)).encode(), more)
    return Message(data, 201, v1=V1("job", objects=(object_id,)))


def _bad_job(rng: Random, _: Jobs) -> Message:
    body, status, problem = rng.choice(_BAD_JOBS)
    return _refused(written(rng, "POST", "/v1/jobs", body), status, problem)


def _read(rng: Random, jobs: Jobs) -> Message:
    job_id = jobs.any(rng)
    if job_id is None:
        return _unknown(rng, jobs)
    if rng.random() < 0.2:
        return Message(written(rng, "GET", f"/v1/jobs/{job_id}/timeline"), 200, v1=V1("other"))
    data = written(rng, "GET", f"/v1/jobs/{job_id}{rng.choice(['', '', '?wait=0', '?wait=1'])}")
    return Message(data, 200, job_id=job_id, v1=V1("job", objects=(jobs.objects[job_id],)))


def _unknown(rng: Random, _: Jobs) -> Message:
    unknown = uuid.UUID(int=rng.getrandbits(128), version=4)
    method, more = rng.choice([("GET", ""), ("GET", "?wait=5"), ("GET", "/timeline"), ("POST", "/cancel")])
    data = written(rng, method, f"/v1/jobs/{unknown}{more}")
    return _refused(data, 404, "no-such-job", f"no job with id: {unknown}")


def _list(rng: Random, jobs: Jobs) -> Message:
    asked = {one.partition("=")[0]: one for one in rng.sample(_FILTERS, rng.choice([0, 1, 2]))}
    if (job_id := jobs.any(rng)) is not None and rng.random() < 0.3:
        asked["key"] = f"key={quote(jobs.objects[job_id])}"
    filters = "&".join(asked.values())
    data = written(rng, "GET", f"/v1/jobs?{filters}" if filters else "/v1/jobs")
    if jobs.cursors and rng.random() < 0.4:
        filters, cursor = rng.choice(jobs.cursors)
        data = written(rng, "GET", "/v1/jobs?" + "&".join([*([filters] if filters else []), f"after={quote(cursor)}"]))
    return Message(data, 200, v1=V1("list", filters=filters))


def _bad_list(rng: Random, _: Jobs) -> Message:
    return _refused(written(rng, "GET", f"/v1/jobs?{rng.choice(_BAD_FILTERS)}"), 400, "malformed")


def _batch(rng: Random, jobs: Jobs) -> Message:
    objects = [jobs.new_object_id(rng) if rng.random() < 0.8 else None for _ in range(rng.choice([1, 2, 5]))]
    members = [{"kind": "no_such_kind", "input": {}} if one is None else _job(one) for one in objects]
    data = written(rng, "POST", "/v1/batches", json.dumps({"jobs": members}).encode())
    return Message(data, 200, v1=V1("batch", objects=tuple(objects)))


def _bad_batch(rng: Random, _: Jobs) -> Message:
    body = rng.choice([b"", b"[]", b"{}", b'{"jobs": []}', b'{"jobs": 5}', b'{"jobs": [], "x": 1}'])
    return _refused(written(rng, "POST", "/v1/batches", body), 400, "malformed")


def _read_batch(rng: Random, jobs: Jobs) -> Message:
    if not jobs.batches:
        unknown = uuid.UUID(int=rng.getrandbits(128), version=4)
        return _refused(written(rng, "GET", f"/v1/batches/{unknown}"), 404, "no-such-batch")
    batch = rng.choice(jobs.batches)
    if rng.random() < 0.3:
        return Message(written(rng, "POST", f"/v1/batches/{batch}/cancel"), 202, v1=V1("other"))
    return Message(written(rng, "GET", f"/v1/batches/{batch}{rng.choice(['', '?wait=1'])}"), 200, v1=V1("other"))


def _act(rng: Random, jobs: Jobs) -> Message:
    """Cancel or retry: what comes of it depends on how far the job is, and on its object's cooldown."""
    job_id = jobs.any(rng)
    if job_id is None:
        return _unknown(rng, jobs)
    objects = (jobs.objects[job_id],)
    if rng.random() < 0.5:
        data = written(rng, "POST", f"/v1/jobs/{job_id}/cancel")
        return Message(data, 200, job_id=job_id, v1=V1("job", objects=objects, other_status=202))
    data = written(rng, "POST", f"/v1/jobs/{job_id}/retry")
    return Message(data, 201, v1=V1("job", ("still-processing", "key-taken"), objects, other_status=409))


def _show(rng: Random, _: Jobs) -> Message:
    return Message(written(rng, "GET", rng.choice(_SHOWN)), 200, v1=V1("other"))


def _nowhere(rng: Random, _: Jobs) -> Message:
    if rng.random() < 0.5:
        return _refused(written(rng, "GET", rng.choice(_NO_SUCH_PATHS)), 404, "no-such-path")
    method, target = rng.choice(["PUT", "PATCH", "DELETE"]), rng.choice(["/v1/jobs", "/v1/kinds", "/v1/batches"])
    return _refused(written(rng, method, target), 405, "method-not-allowed")
