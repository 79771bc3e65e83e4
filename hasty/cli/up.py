"""`hasty up`: the whole system on this machine, until Ctrl-C."""

import os
import sys
from pathlib import Path

import click

from hasty.cli.exits import FAILED, USAGE, leave


@click.command()
@click.argument("work", metavar="[FILE]", required=False)
@click.option("--api-servers", type=click.IntRange(min=1), default=1, show_default=True, help="How many to run.")
@click.option("--job-servers", type=click.IntRange(min=0), default=1, show_default=True, help="How many to run.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=Path(".hasty"),
    show_default=True,
    help="Where data, logs and stack.json are.",
)
def up(work: str | None, *, api_servers: int, job_servers: int, folder: Path) -> None:
    """Run the whole system until Ctrl-C. HASTY_* in the environment are its settings.

    FILE is the Python file or module with your handlers; it is loaded again when it changes.

    To back up all its data, stop it and copy its folder (.hasty, or that of --folder). To restore, stop it, put the
    copy in its place, and start it: jobs that had not ended when the copy was made are run again.
    """
    try:
        from hasty.server.local_stack import foreground
    except ModuleNotFoundError as error:
        leave(f"the servers are not installed ({error.name} is missing): pip install 'hasty-jobs[server]'", FAILED)
    environment = dict(os.environ)
    if work is not None:
        path = Path(work)
        if work.endswith(".py") and not path.is_file():
            leave(f"there is no file {work}: name the Python file that has your handlers", USAGE)
        environment |= {"HASTY_WORK": str(path.resolve()) if work.endswith(".py") else work, "HASTY_WORK_WATCH": "true"}
    sys.exit(foreground.main(environment, folder, api_servers, job_servers))
