"""The commands about who works: kinds, workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from hasty.cli.options import of_a_server

if TYPE_CHECKING:  # the client takes 100 ms to load, and `hasty --help` does not need it
    from hasty.client import Kind


@click.command()
@of_a_server
def kinds(*, as_json: bool, url: str | None, profile: str | None) -> None:
    """List the kinds of jobs, with their input and how many workers serve them."""
    from hasty.cli.output import print_json, print_table, span
    from hasty.cli.server import connect

    with connect(url, profile) as client:
        found = client.kinds()
    if as_json:
        for kind in found:
            print_json(kind)
        return
    rows = [
        [
            kind.name,
            _parameters(kind),
            str(len(kind.workers)),
            str(kind.free_slots),
            "" if kind.timeout_s is None else span(kind.timeout_s),
            str(kind.attempts),
            kind.description.partition("\n")[0],
        ]
        for kind in found
    ]
    print_table(["kind", "input", "workers", "free", "timeout", "attempts", ""], rows)


@click.command()
@of_a_server
def workers(*, as_json: bool, url: str | None, profile: str | None) -> None:
    """List the job-servers heard from in the last minute."""
    from hasty.cli.output import print_json, print_table, span
    from hasty.cli.server import connect

    with connect(url, profile) as client:
        found = client.workers()
    if as_json:
        for worker in found:
            print_json(worker)
        return
    rows = [
        [
            worker.worker,
            "silent" if worker.silent else "ready",
            f"{span(worker.last_sign_s)} ago",
            str(worker.running),
            str(worker.held),
            ",".join(sorted(worker.kinds)),
        ]
        for worker in found
    ]
    print_table(["worker", "state", "last sign", "running", "held", "kinds"], rows)


def _parameters(kind: Kind) -> str:
    """Write what a kind takes as on the command line; what may be left out is in brackets."""
    names = kind.input_schema.get("properties", {})
    required = kind.input_schema.get("required", [])
    return " ".join(f"{name}=" if name in required else f"[{name}=]" for name in names)
