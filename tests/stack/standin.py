"""A service for tests of the stack itself: `standin.py [--ignore-sigterm] [--exit CODE] [--unready]`.

It answers every request with what it saw of it, and dies of `POST /die` after reading it. `--once FILE` limits
`--exit` to the first start: the file is made then.
"""

# ruff: noqa: T201 - what it prints is its log
import argparse
import asyncio
import itertools
import json
import os
import signal
from pathlib import Path


async def main(options: argparse.Namespace) -> None:
    """Serve until SIGTERM."""
    ended = asyncio.Event()
    on_term = (lambda: print("ignored", flush=True)) if options.ignore_sigterm else ended.set
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, on_term)
    numbers = itertools.count(1)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _answer(reader, writer, next(numbers), unready=options.unready)

    server = await asyncio.start_server(answer, "127.0.0.1", int(os.environ["HASTY_BIND_PORT"]), backlog=2048)
    print("serving", json.dumps({k: v for k, v in os.environ.items() if k.startswith("HASTY_")}), flush=True)
    await ended.wait()
    server.close()


async def _answer(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int, *, unready: bool
) -> None:
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:-2])}
            await reader.readexactly(int(headers.get("content-length", "0")))
            method, path, _ = head[0].split(" ")
            print(method, path, flush=True)
            if (method, path) == ("POST", "/die"):
                os._exit(9)
            seen = {"pid": os.getpid(), "method": method, "path": path, "headers": headers, "connection": connection}
            body = json.dumps(seen).encode()
            status = "503 Service Unavailable" if unready and path == "/readyz" else "200 OK"
            writer.write(
                f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
                + body
            )
            if headers.get("connection") == "close":
                return
    except (asyncio.IncompleteReadError, ConnectionError):
        return
    finally:
        writer.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--ignore-sigterm", action="store_true")
    parser.add_argument("--unready", action="store_true")
    parser.add_argument("--exit", type=int)
    parser.add_argument("--once", type=Path)
    chosen = parser.parse_args()
    if chosen.exit is not None and not (chosen.once and chosen.once.exists()):
        if chosen.once:
            chosen.once.touch()
        print("HASTY_COOLDOWN_S is 'soon': it must be a number of seconds", flush=True)
        raise SystemExit(chosen.exit)
    asyncio.run(main(chosen))
