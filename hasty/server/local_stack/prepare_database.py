"""Makes a database's users, then becomes its program: `prepare_database WANTED MARKER PORT PROGRAM ARGUMENT...`.

SecantusDB makes users only as long as it asks nobody for a login. So it runs without `--auth` once, for about a second,
on another address of this machine that nobody is told; then it is started anew with `--auth`, on PORT. What is wanted
is in the JSON file WANTED, see `hasty.server.database_users`; the file MARKER says that it is done.
"""

import asyncio
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from hasty.server.database_users import ACTIONS, Wanted, make_users, read
from hasty.server.mongo import Mongo, StoreUnavailable

STARTS_WITHIN_S = 30.0
ASK_AGAIN_S = 0.02
CALL_TIMEOUT_S = 5.0


def main(arguments: Sequence[str]) -> None:
    """Make the users, then become the program."""
    wanted_path, marker, port, *program = arguments
    wanted = read(Path(wanted_path))
    host = _unpublished_address()
    with socket.create_server((host, 0)) as free:
        other = free.getsockname()[1]
    with subprocess.Popen([*program, "--host", host, "--port", str(other)]) as process:  # noqa: S603 - the stack's own
        try:
            _wait_for(host, other, process)
            asyncio.run(_prepare(wanted, f"{host}:{other}", process))
        finally:
            process.terminate()
    Path(marker).write_text(mark(wanted))
    last = [*program, "--host", "127.0.0.1", "--port", port, "--auth"]
    os.execv(last[0], last)  # noqa: S606 - that is the purpose; no shell is wanted


def mark(wanted: Wanted) -> str:
    """What the marker says when exactly these users with exactly these rights have been made."""
    text = "\n".join([wanted.model_dump_json(exclude={"address"}), *ACTIONS])
    return sha256(text.encode()).hexdigest() + "\n"


def _unpublished_address() -> str:
    """One of 16 million on Linux; elsewhere there is only one loopback address."""
    if sys.platform != "linux":
        return "127.0.0.1"
    return "127." + ".".join(str(secrets.randbelow(254) + 1) for _ in range(3))


def _wait_for(host: str, port: int, process: "subprocess.Popen[bytes]") -> None:
    """Until it listens: the driver would look again only half a second after it did not."""
    deadline = time.monotonic() + STARTS_WITHIN_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection((host, port), timeout=1).close()
        except OSError:
            time.sleep(ASK_AGAIN_S)
        else:
            return


async def _prepare(wanted: Wanted, address: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + STARTS_WITHIN_S
    url = f"mongodb://{address}/admin"
    async with Mongo.opened(url, name="admin", indexes={}, timeout_s=CALL_TIMEOUT_S) as admin:
        while True:
            try:
                await make_users(admin, wanted, set_passwords=True)
            except StoreUnavailable:
                if time.monotonic() > deadline or process.poll() is not None:
                    raise
                await asyncio.sleep(ASK_AGAIN_S)
            else:
                return


if __name__ == "__main__":
    main(sys.argv[1:])
