"""`hasty open`: the dashboard, in the browser."""

from __future__ import annotations

import sys

import click

from hasty.cli.completion import complete_job
from hasty.cli.options import of_a_server


@click.command("open")
@click.argument("job", metavar="[JOB]", required=False, shell_complete=complete_job)
@of_a_server
def open_(job: str | None, *, as_json: bool, url: str | None, profile: str | None) -> None:
    """Open the dashboard, or a job's page in it.

    In a pipe, the URL is printed and nothing is opened.
    """
    from hasty.cli.ids import resolve
    from hasty.cli.output import print_json
    from hasty.cli.server import connect, server

    page = f"{server(url, profile).url.rstrip('/')}/ui/"
    if job is not None:
        with connect(url, profile) as client:
            page += f"#/jobs/{client.get(resolve(client, job)).id}"
    if as_json:
        print_json({"url": page})
        return
    click.echo(page)
    if sys.stdout.isatty():
        click.launch(page)
