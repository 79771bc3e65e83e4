"""The links of the description: what can be asked next about what an answer shows (OpenAPI 3.1, Link Object)."""

from typing import Any, Final

Links = dict[str, dict[str, Any]]

_JOB: Final = ("show_job", "cancel_job", "retry_job", "show_timeline")
_BATCH: Final = ("show_batch", "cancel_batch", "retry_batch")


def _links(operations: tuple[str, ...], parameter: str, pointer: str) -> Links:
    return {
        operation: {"operationId": operation, "parameters": {parameter: f"$response.body#{pointer}"}}
        for operation in operations
    }


OF_JOB: Final = _links(_JOB, "job_id", "/id")
"""From an answer that is a job."""

OF_BATCH: Final = {**_links(_BATCH, "batch_id", "/id"), **_links(("list_jobs",), "batch", "/id")}
"""From an answer that is a batch."""

OF_PAGE: Final = {**_links(_JOB, "job_id", "/data/0/id"), **_links(("list_jobs",), "after", "/next")}
"""From a page of jobs: its first job, and the page that follows."""
