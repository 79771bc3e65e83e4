"""What a call means: which kind, and which input. mypy checks the calls below as well."""

from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from pydantic import BaseModel

from hasty import Context, HandlerError, command, job
from hasty.client import AsyncHasty, Hasty
from hasty.client.inputs import as_json, input_of, kind_of


@job
async def greet(name: str, kind: str = "") -> str:
    """Greet."""
    return f"{kind} {name}"


@job(name="picture")
def resize(ctx: Context, url: str, width: int) -> int:
    """Resize."""
    return len(ctx.kind) + len(url) + width


@job
def ranked(first: int, ctx: Context, second: int = 2) -> int:
    """Have a context in between."""
    return first + second + ctx.run


thumb = command("a_thumb", ["./thumb.sh"])


def test_kind_is_named_or_a_handler() -> None:
    """What is none is refused, with what to do."""
    assert [kind_of(each) for each in ("x", greet, resize, thumb)] == ["x", "greet", "picture", "a_thumb"]
    with pytest.raises(HandlerError, match="write @job above"):
        kind_of(len)


def test_input_is_that_of_a_call() -> None:
    """By position and by name; the context is none of it, and defaults are the server's to fill in."""
    assert input_of(greet, ("Ada",), {}) == {"name": "Ada"}
    assert input_of(greet, (), {"name": "Ada", "kind": "x"}) == {"name": "Ada", "kind": "x"}
    assert input_of(resize, ("u",), {"width": 3}) == {"url": "u", "width": 3}
    assert input_of(ranked, (1, 3), {}) == {"first": 1, "second": 3}
    assert input_of("greet", (), {"self": 1, "handler": 2}) == {"self": 1, "handler": 2}


def test_wrong_arguments_are_refused_at_once() -> None:
    """As by the handler itself."""
    for args, values in [((), {}), (("Ada",), {"name": "Bob"}), ((), {"nam": "Ada"})]:
        with pytest.raises(TypeError):
            input_of(greet, args, values)
    with pytest.raises(TypeError, match="have names"):
        input_of("greet", ("Ada",), {})


@dataclass
class Point:
    """A place."""

    x: int


class Model(BaseModel):
    """A model."""

    at: datetime


def test_values_are_written_as_pydantic_reads_them() -> None:
    """Times, dataclasses and models among them; what is no JSON is refused here."""
    at = datetime(2026, 11, 28, tzinfo=UTC)
    written = as_json({"at": at, "points": [Point(1)], "model": Model(at=at), "name": "ü"})
    told = '{"at":"2026-11-28T00:00:00Z","points":[{"x":1}],"model":{"at":"2026-11-28T00:00:00Z"},"name":"ü"}'
    assert written.decode() == told
    for value in (float("nan"), "\ud800", object()):
        with pytest.raises((TypeError, ValueError)):
            as_json({"value": value})


# Type checkers know the handler's parameters: a call that would not fit is an error, and an unused ignore is one.
def typed(client: Hasty) -> None:
    """Submit."""
    client.submit(greet, name="Ada", kind="x")
    client.submit(resize, url="u", width=3)
    client.submit(ranked, first=1)
    client.submit(thumb, anything=1)
    client.submit("greet", anything=1)
    client.submit(greet, name=1)  # type: ignore[arg-type]
    client.submit(greet, nam="Ada")  # type: ignore[arg-type]
    client.submit(resize, url="u", width="3")  # type: ignore[arg-type]


async def typed_too(client: AsyncHasty) -> None:
    """Submit."""
    await client.submit(greet, "Ada")
    await client.submit(resize, "u", 3)
    await client.submit(greet, name=1)  # type: ignore[arg-type]
