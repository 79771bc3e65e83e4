"""What the command prints: data on standard output, for people on a terminal and for programs in a pipe."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import click

from hasty.client.model import Job

COLORS: Final = {
    "finished": "green",
    "failed": "red",
    "cancelled": "yellow",
    "running": "cyan",
    "retrying": "magenta",
    "silent": "red",
}


def print_json(value: Any) -> None:
    """Print a value as one line of JSON: what the server said, where it said it."""
    if isinstance(value, Job):
        value = value.raw
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    click.echo(json_text(value))


def json_text(value: Any) -> str:
    """Write a value as one line of JSON."""
    return json.dumps(value, ensure_ascii=False, default=_json)


def print_table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table: aligned and with its heading on a terminal, its fields between tabs in a pipe."""
    if not sys.stdout.isatty():
        for row in rows:
            click.echo("\t".join(row))
        return
    table = [heading, *rows]
    widths = [max(len(row[n]) for row in table) for n in range(len(heading))]
    for number, row in enumerate(table):
        cells = [painted(cell.ljust(width), cell) for cell, width in zip(row, widths, strict=True)]
        line = "  ".join(cells).rstrip()
        click.echo(styled(line, bold=True) if number == 0 else line)


def print_fields(fields: Sequence[tuple[str, str]]) -> None:
    """Print names and values, one on each line; further lines of a value are indented."""
    width = max(len(name) for name, _ in fields)
    for name, value in fields:
        first, *rest = value.splitlines() or [""]
        click.echo(f"{name.ljust(width)}  {painted(first, first)}".rstrip())
        for line in rest:
            click.echo(f"{'':{width}}  {line}")


def painted(text: str, word: str) -> str:
    """Return a text in the color of a word, where there are colors."""
    return styled(text, fg=COLORS[word]) if word in COLORS else text


def styled(text: str, **style: Any) -> str:
    """Return a styled text: on a terminal, unless NO_COLOR is set."""
    return click.style(text, **style) if sys.stdout.isatty() and not os.environ.get("NO_COLOR") else text


def ago(at: datetime | None) -> str:
    """Write how long ago a time was, or how far ahead it is."""
    if at is None:
        return ""
    seconds = (datetime.now(UTC) - at).total_seconds()
    return f"{span(seconds)} ago" if seconds >= 0 else f"in {span(-seconds)}"


def span(seconds: float) -> str:
    """Write a time span, in the largest unit of which it has two or more."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"  # noqa: PLR2004 - tenths matter below


def time_text(at: datetime | None) -> str:
    """Write a time as the API does."""
    return "" if at is None else f"{at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"


def short(job_id: str) -> str:
    """Return the end of an id, which is chance: jobs of the same minute begin with the same digits."""
    return job_id[-8:]


def _json(value: object) -> str:
    if isinstance(value, datetime):
        return time_text(value)
    raise TypeError(f"{value!r} is no JSON")
