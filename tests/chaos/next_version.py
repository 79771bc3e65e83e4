"""Starts a service as a later version of itself might be: `python -m tests.chaos.next_version api_server`.

Whether it does is asked at each start: only if the tester has put `next-version-<port>` into HASTY_FAULTS_DIR. The
later version's events carry fields that today's does not know, at both levels. With `work-<port>` there, a job-server
loads the handlers that this file names instead of its own.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from hasty.server.messaging import events


def main() -> None:
    """Become the service named by the only argument."""
    (module,) = sys.argv[1:]
    folder, port = Path(os.environ["HASTY_FAULTS_DIR"]), os.environ["HASTY_BIND_PORT"]
    if (folder / f"next-version-{port}").exists():
        _add_fields()
    if (folder / f"work-{port}").exists():
        os.environ["HASTY_WORK"] = (folder / f"work-{port}").read_text(encoding="utf-8")
    sys.argv = [module]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _add_fields() -> None:
    message = events._message  # noqa: SLF001 - where every event is written

    def message_with_more(*parts: Any) -> events.Outgoing:
        written = message(*parts)
        event = json.loads(written.body)
        event["version"] = 2
        event["job"]["labels"] = {"colour": "blue", "weight": [1, 2.5, None]}
        return replace(written, body=json.dumps(event).encode())

    setattr(events, "_message", message_with_more)  # noqa: B010 - a patch, and meant as one


if __name__ == "__main__":
    main()
