"""The folder of a stack: held by one stack at a time, and true about what runs in it.

- `stack.json`: every child while the stack runs, `{"url", "pid", "ready", "children": [{"name", "pid", "address"}]}`
- `stack.lock`: held by the stack that runs
- `data/<name>`: what a child keeps
- `logins.json`: the logins of the broker and the databases, see `logins`
- `logs/<name>.log`, and `.log.1` for what was before
"""

import fcntl
import json
import os
import shutil
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Self

from hasty.server.local_stack.child import Child
from hasty.server.local_stack.errors import AlreadyRunningError, StackError
from hasty.server.local_stack.process import is_same, kill_group, members, started, works_in

LEFTOVER_TIMEOUT_S = 5.0


class Folder:
    """A folder that this stack holds; see `claimed`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stack = path / "stack.json"

    @classmethod
    @contextmanager
    def claimed(cls, path: Path) -> Iterator[Self]:
        """Hold the folder, end what an earlier stack left running, and leave no stack.json behind.

        AlreadyRunningError when another stack holds it, StackError when it cannot be written.
        """
        with _lock_in(path) as lock:
            _hold(lock, path)
            folder = cls(path.resolve())
            folder._end_leftovers()
            try:
                yield folder
            finally:
                folder._stack.unlink(missing_ok=True)

    def data(self, name: str) -> Path:
        """Where the child `name` keeps its data; made when missing."""
        data = data_folder(self.path, name)
        _make_private(data.parent)
        return _make_private(data)

    def work(self, name: str) -> Path:
        """Where the child `name` finds its configuration; made when missing."""
        return _make_private(self.path / name)

    def log(self, name: str) -> Path:
        """The log of the child `name`, empty; what was in it is in `.log.1`."""
        log = self.path / "logs" / f"{name}.log"
        _make_private(log.parent)
        with suppress(FileNotFoundError):
            log.replace(log.with_suffix(".log.1"))
        log.touch()
        return log

    def turn_logs(self, limit_bytes: int) -> None:
        """Move what has grown over the limit to `.log.1`, under the hands of the children that append to it.

        Where the disk has no space for the copy, what has grown is dropped, so that logs do not keep a disk full.
        """
        for log in (self.path / "logs").glob("*.log"):
            if log.stat().st_size > limit_bytes:
                copy = log.with_suffix(".log.1")
                try:
                    shutil.copyfile(log, copy)
                except OSError:
                    copy.unlink(missing_ok=True)
                os.truncate(log, 0)

    def tell(self, url: str, children: Iterable[Child], *, ready: bool) -> None:
        """Write stack.json, whole or not at all."""
        text = json.dumps(
            {
                "url": url,
                "pid": os.getpid(),
                "ready": ready,
                "children": [
                    {"name": child.name, "pid": child.pid, "address": child.address, "started": child.started}
                    for child in children
                ],
            },
            indent=2,
        )
        new = self._stack.with_suffix(".json.new")
        new.write_text(text + "\n")
        new.replace(self._stack)

    def _end_leftovers(self) -> None:
        """End the children of a stack that was killed, if they are still the processes it named."""
        for entry in _children_in(self._stack):
            pid, since = entry.get("pid"), entry.get("started")
            if not isinstance(pid, int) or not isinstance(since, float):
                continue
            if is_same(pid, since):
                kill_group(pid)
                _wait_for_end(pid, since)
            elif started(pid) is None:
                # nginx's workers can outlive their master. They are known by their folder, and by a group number
                # that no new process gets while they live.
                for member in members(pid):
                    if works_in(member, self.work(str(entry.get("name")))):
                        os.kill(member, signal.SIGKILL)


def data_folder(path: Path, name: str) -> Path:
    """Where, in the folder of a stack, the child `name` keeps its data."""
    return path / "data" / name


def _make_private(folder: Path) -> Path:
    """Make a folder that its owner alone may enter; one that exists, from an earlier version, is made so."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    return folder


def _lock_in(path: Path) -> IO[str]:
    try:
        path.mkdir(parents=True, exist_ok=True)
        return (path / "stack.lock").open("a+")
    except OSError as error:
        raise _not_writable(path, error) from error


def _hold(lock: IO[str], path: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        raise AlreadyRunningError(
            f"a stack already runs in {path} (pid {lock.read().strip() or 'unknown'}): end it first with Ctrl-C, "
            "or give this one a folder (hasty up --folder, make up FOLDER=) and a HASTY_HTTP_PORT of its own"
        ) from None
    try:
        lock.truncate(0)
        os.write(lock.fileno(), f"{os.getpid()}\n".encode())
    except OSError as error:
        raise _not_writable(path, error) from error


def _not_writable(path: Path, error: OSError) -> StackError:
    return StackError(
        f"the folder {path} cannot be written ({error.strerror}): choose another one (hasty up --folder, or "
        "make up FOLDER=)"
    )


def _children_in(stack: Path) -> list[dict[str, Any]]:
    try:
        children = json.loads(stack.read_text())["children"]
    except (FileNotFoundError, ValueError, LookupError, TypeError):
        return []
    return [entry for entry in children if isinstance(entry, dict)] if isinstance(children, list) else []


def _wait_for_end(pid: int, since: float) -> None:
    deadline = time.monotonic() + LEFTOVER_TIMEOUT_S
    while is_same(pid, since) and time.monotonic() < deadline:
        time.sleep(0.02)
