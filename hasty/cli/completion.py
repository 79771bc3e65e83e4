"""What the shell offers while a command is typed; nothing where no server answers at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from click import Context, Parameter
from click.shell_completion import CompletionItem

if TYPE_CHECKING:  # the client takes 100 ms to load, and `hasty --help` does not need it
    from hasty.client import Hasty

OFFERED: Final = 50


def complete_kind(context: Context, _parameter: Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the kinds."""
    return _offered(context, incomplete, lambda client: [(kind.name, kind.description) for kind in client.kinds()])


def complete_job(context: Context, _parameter: Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the newest jobs."""
    return _offered(
        context,
        incomplete,
        lambda client: [(job.id, f"{job.kind} {job.phase or job.status}") for job in client.jobs(limit=OFFERED)],
    )


def _offered(context: Context, incomplete: str, ask: Callable[[Hasty], list[tuple[str, str]]]) -> list[CompletionItem]:
    from hasty.cli.server import connect
    from hasty.client import HastyError

    try:
        with connect(context.params.get("url"), context.params.get("profile"), retry_for_s=0) as client:
            found = ask(client)
    except (HastyError, SystemExit):
        return []
    return [CompletionItem(value, help=words) for value, words in found if value.startswith(incomplete)]
