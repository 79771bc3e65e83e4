"""Starts a service as a later version of itself might be: `python -m tests.faults.next_version api_server`.

Whether it does is asked at each start: only if the tester has put `next-version-<port>` into HASTY_FAULTS_DIR. The
later version's events carry fields that today's does not know, at both levels.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from messaging import events

if TYPE_CHECKING:
    from messaging.events import JobFacts, Subject


def main() -> None:
    """Become the service named by the only argument."""
    (module,) = sys.argv[1:]
    mark = Path(os.environ["HASTY_FAULTS_DIR"]) / f"next-version-{os.environ['HASTY_BIND_PORT']}"
    if mark.exists():
        _add_fields()
    sys.argv = [module]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _add_fields() -> None:
    encode = events.encode

    def encode_more(subject: Subject, job: JobFacts) -> bytes:
        event = json.loads(encode(subject, job))
        event["version"] = 2
        event["job"]["labels"] = {"colour": "blue", "weight": [1, 2.5, None]}
        return json.dumps(event).encode()

    events.encode = encode_more


if __name__ == "__main__":
    main()
