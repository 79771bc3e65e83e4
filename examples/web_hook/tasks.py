"""Web hooks: tell another service something, as often as it takes, and so that it counts once."""

import json
import urllib.error
import urllib.request
from http import HTTPStatus
from typing import Any

from hasty import Context, Fail, Retry, Snooze, job

ANSWERS_WITHIN_S = 10


@job(retry=Retry(attempts=8, first_s=1, most_s=3600), timeout_s=30)
def deliver(url: str, payload: dict[str, Any], ctx: Context) -> int:
    """Post the payload; return the status of the answer."""
    if not url.startswith(("http://", "https://")):
        raise Fail(f"{url} is no address of a web hook")
    request = urllib.request.Request(  # noqa: S310 - it is http or https
        url,
        json.dumps(payload).encode(),
        # The same in every attempt: whoever gets it twice can tell.
        {"Content-Type": "application/json", "Idempotency-Key": ctx.idempotency_key},
    )
    try:
        with urllib.request.urlopen(request, timeout=ANSWERS_WITHIN_S) as answer:  # noqa: S310 - as above
            return int(answer.status)
    except urllib.error.HTTPError as error:
        wait = error.headers.get("Retry-After", "")
        if error.code in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE} and wait.isdigit():
            # It says when to come again: that spends no attempt.
            raise Snooze(int(wait)) from error
        if error.code < HTTPStatus.INTERNAL_SERVER_ERROR and error.code != HTTPStatus.REQUEST_TIMEOUT:
            # It will not like the same request better the next time.
            raise Fail(f"{url} answered {error.code} {error.reason}") from error
        # Anything else, as when nobody answers at all, is an attempt that failed: the next one comes later.
        raise
