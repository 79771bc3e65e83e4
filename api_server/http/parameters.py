"""The parameters of `/v1`: what may stand in a path, a query or a header."""

import re
from typing import Annotated, Any, Final

from fastapi import Header, Path, Query, Request
from pydantic import AwareDatetime, BeforeValidator

from api_server.domain import Filters
from api_server.errors import InvalidRequest, NoSuchBatch, NoSuchJob
from api_server.http.problems import PROBLEM_JSON, Problem
from api_server.listing import CURSOR, PAGE_MAX
from hasty.jobs import JOB_ID, KIND_NAME, LABEL_MAX, OBJECT_ID_MAX, Status

WAIT_MAX_S: Final = 60
DEFINED: Final = "#/components/schemas/{model}"
"""Where the description defines models; see `v1.describe`."""

JOB_IDS: Final = f"^{JOB_ID.pattern}$"

Wait = Annotated[
    float,
    Query(ge=0, le=WAIT_MAX_S, allow_inf_nan=False, description="Seconds to wait for the outcome, before answering"),
]
JobIdInPath = Annotated[str, Path(description="The job's id", json_schema_extra={"format": "uuid"})]
BatchIdInPath = Annotated[str, Path(description="The batch's id", json_schema_extra={"format": "uuid"})]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        pattern=r"^[\x21-\x7e]+$",  # no space: see `KEY_SEPARATOR` of `api_server.batches`
        description="Repeats of the same body get what the first request has made, for as long as its job is kept",
    ),
]
LastEventId = Annotated[
    int | None,
    Header(alias="Last-Event-ID", ge=0, le=2**31, description="The id of the last event that a stream's client got"),
]
Limit = Annotated[int, Query(ge=1, le=PAGE_MAX, description="How many at most")]
After = Annotated[
    str | None,
    # It is read by `cursor_of`, which says what is wrong with it.
    Query(max_length=64, description="`next` of the page before", json_schema_extra={"pattern": f"^({CURSOR})$"}),
]

_PROBLEM: Final[dict[str, Any]] = {
    "description": "Why not, as problem details (RFC 9457)",
    "content": {PROBLEM_JSON: {"schema": Problem.model_json_schema(ref_template=DEFINED)}},
}
_RETRY_AFTER: Final = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds"}}


def _written_out(value: object) -> object:
    """Refuse seconds since 1970, which pydantic would take for a time."""
    if isinstance(value, str) and not re.match("[0-9]{4}-", value):
        raise ValueError("Input should be a time such as 2026-11-27T14:00:00Z")
    return value


async def wanted(
    kind: Annotated[str | None, Query(pattern=f"^{KIND_NAME.pattern}$", description="Jobs of this kind")] = None,
    status: Annotated[Status | None, Query(description="Jobs with this status")] = None,
    key: Annotated[
        str | None, Query(min_length=1, max_length=OBJECT_ID_MAX, description="Jobs with this key; quick with `kind`")
    ] = None,
    label: Annotated[str | None, Query(min_length=1, max_length=LABEL_MAX, description="Jobs with this label")] = None,
    batch: Annotated[str | None, Query(pattern=JOB_IDS, description="Jobs of this batch")] = None,
    since: Annotated[
        AwareDatetime | None, BeforeValidator(_written_out), Query(description="Jobs created from this time on")
    ] = None,
) -> Filters:
    """Read the filters of a list."""
    return Filters(kind, status, key, label, batch, since)


async def only_known(request: Request) -> None:
    """Refuse parameters that a path does not have, and parameters and headers that stand there twice.

    Raises:
        InvalidRequest: when there is one.
    """
    known = {field.alias for field in _all_query_params(request.scope["route"].dependant)}
    given = [name for name, _ in request.query_params.multi_items()]
    for name in given:
        if name not in known:
            names = ", ".join(sorted(known)) or "none"
            raise InvalidRequest(f"there is no parameter {name[:64]!r} here; there are: {names}", parameter=name[:64])
        if given.count(name) > 1:
            raise InvalidRequest(f"{name}: this parameter stands there {given.count(name)} times", parameter=name)
    for name in ("Idempotency-Key", "Last-Event-ID"):
        if len(values := request.headers.getlist(name)) > 1:
            raise InvalidRequest(f"{name}: this header stands there {len(values)} times", parameter=name)


def _all_query_params(dependant: Any) -> list[Any]:
    return [*dependant.query_params, *(field for each in dependant.dependencies for field in _all_query_params(each))]


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe problems by status; those that every request may meet are among them."""
    described: dict[int | str, dict[str, Any]] = dict.fromkeys((*statuses, 400, 500), _PROBLEM)
    described[503] = described["4XX"] = {**_PROBLEM, "headers": _RETRY_AFTER}
    return described


def require_job_id(job_id: str) -> None:
    """Refuse what cannot be a job's id: nothing but a UUID was ever handed out.

    Raises:
        NoSuchJob: when it cannot.
    """
    if not JOB_ID.fullmatch(job_id):
        raise NoSuchJob(job_id)


def require_batch_id(batch_id: str) -> None:
    """Refuse what cannot be a batch's id; as `require_job_id`.

    Raises:
        NoSuchBatch: when it cannot.
    """
    if not JOB_ID.fullmatch(batch_id):
        raise NoSuchBatch(batch_id)
