"""A process that runs one handler at a time: `python -P -m hasty.executor.worker DESCRIPTOR TARGET`.

It speaks as the child does, see the package, about the one run that it has.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import signal
import socket
import sys
import time
import traceback
from datetime import UTC, datetime
from typing import Any

from hasty.context import Context
from hasty.executor import forks, outcomes
from hasty.executor.outcomes import Outcome
from hasty.executor.output import LineWriter
from hasty.executor.process import prepare
from hasty.handlers import Handler, load
from hasty.jobs import Reason

PROGRESS_EVERY_S = 0.1


class Worker:
    """Runs what comes over a socket, one after the other."""

    def __init__(self, channel: socket.socket, handlers: dict[str, Handler]) -> None:
        self._channel = channel
        self._handlers = handlers
        self._sent_at = 0.0

    def serve(self) -> None:
        """Run until the other end is gone."""
        with self._channel.makefile("rb") as lines:
            for line in lines:
                for message in json.loads(line):
                    match message:
                        case ["run", str(turn_id), dict() as spec]:
                            outcome = self._run(turn_id, spec)
                            forks.end_if_forked()
                            self.send("ended", turn_id, outcome)

    def send(self, *message: Any) -> None:
        """Send a message."""
        self._channel.sendall(json.dumps([message]).encode() + b"\n")

    def _run(self, turn_id: str, spec: dict[str, Any]) -> Outcome:
        started_at = time.time()

        def report(done: float, note: str) -> None:
            now = time.monotonic()
            if now - self._sent_at >= PROGRESS_EVERY_S or done >= 1:
                self._sent_at = now
                self.send("progress", turn_id, done, note)

        context = Context(
            job_id=spec["job_id"],
            kind=spec["kind"],
            attempt=spec["attempt"],
            run=spec["run"],
            deadline=datetime.fromtimestamp(started_at + spec["timeout_s"], UTC),
            labels=tuple(spec["labels"]),
            report=report,
        )
        handler = self._handlers[spec["kind"]]
        try:
            value = handler.call(handler.parse(spec["input"]), context)
            if inspect.isawaitable(value):
                value = asyncio.run(_await(value))
            return outcomes.of_return(handler, value)
        except BaseException as error:  # noqa: BLE001 - a handler may raise anything, and its run ends with it
            return outcomes.of_error(error)


async def _await(value: Any) -> Any:
    return await value


def main(arguments: list[str]) -> None:
    """Load the handlers, and run what comes."""
    descriptor, target = arguments
    channel = socket.socket(fileno=int(descriptor))
    prepare(channel)
    # It is ended by a signal to its group, and must not survive it because of what a handler has set up.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        handlers = load(target).handlers
    except BaseException:  # noqa: BLE001 - a module may raise anything
        failure = outcomes.failed(Reason.EXCEPTION, f"{target} cannot be imported", trace=traceback.format_exc())
        for line in channel.makefile("rb"):
            for message in json.loads(line):
                channel.sendall(json.dumps([["ended", message[1], failure]]).encode() + b"\n")
        return
    worker = Worker(channel, handlers)
    sys.stdout = LineWriter(lambda line: worker.send("log", None, "stdout", line))
    sys.stderr = LineWriter(lambda line: worker.send("log", None, "stderr", line))
    worker.serve()


if __name__ == "__main__":
    main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(0)
