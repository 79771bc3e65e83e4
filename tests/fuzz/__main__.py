"""`python -m tests.fuzz --seed 7 --minutes 5` fuzzes the api-server's own port and nginx's, half of the time each."""

import asyncio
import tempfile
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from tests.e2e.stacks import running, services
from tests.fuzz import campaign

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    seed: Annotated[int, typer.Option(help="Every request and every mutation comes from it.")] = 1,
    minutes: Annotated[float, typer.Option(help="How long, both ports together.")] = 5,
) -> None:
    """Fuzz a system of its own; exit code 1 when an answer was wrong or something was not released."""
    folder = Path(tempfile.mkdtemp(prefix=f"hasty-fuzz-{seed}-"))
    typer.echo(f"seed {seed}: {minutes:g} minutes, logs in {folder}/logs", err=True)
    raise typer.Exit(asyncio.run(_fuzz(folder, seed, minutes * 60)))


async def _fuzz(folder: Path, seed: int, seconds: float) -> int:
    async with running(folder, environment=campaign.QUICK_JOBS) as stack:
        [api_server] = services(stack, "api-server")
        failed = False
        for name, port, proxied in (
            ("own port", api_server.port, False),
            ("nginx", urlsplit(stack.url).port or 80, True),
        ):
            report = await campaign.run(stack, port, seed=seed, seconds=seconds / 2, proxied=proxied)
            typer.echo(f"{name}: {report}")
            failed = failed or bool(report.violations)
    return int(failed)


if __name__ == "__main__":
    app()
