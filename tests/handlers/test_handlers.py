"""Handlers as they are loaded: schemas, checks, and what is wrong with some."""

import enum
import functools
import json
import subprocess
import sys
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict

from hasty import Context, HandlerError, Retry, command, job
from hasty.declare import DECLARED
from hasty.handlers import BadOutput, Handler, InputRefused, handler_of, load
from hasty.jobs import Way
from hasty.keys import KeyProblem, key_of


class Colour(enum.Enum):
    """A colour."""

    RED = "red"


@dataclass
class Point:
    """A point."""

    x: int
    y: int = 0


class Order(BaseModel):
    """An order."""

    number: int
    at: datetime


@job
def everything(
    order: Order,
    point: Point,
    colour: Colour,
    mode: Literal["a", "b"],
    size: int | str,
    ctx: Context,
    when: datetime | None = None,
    rest: list[float] = [],  # noqa: B006 - pydantic copies it
) -> Order:
    """Take all there is.

    And more.
    """
    assert [ctx, point, colour, mode, size, when, rest]
    return order


@job
def loose(anything, more: Any = None):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Take anything, and give it back."""
    return anything or more


@job
def nothing() -> None:
    """Return nothing."""


@job
def number() -> float:
    """Return a number."""
    return 1


def made(function: Any) -> Handler:
    """The handler of a function of this module."""
    return handler_of(next(one for one in DECLARED if one.target is function))


DEEP: list[Any] = []
for _ in range(100_000):
    DEEP = [DEEP]

EVERYTHING = {
    "order": {"number": 1, "at": "2026-01-02T03:04:05Z"},
    "point": {"x": 1},
    "colour": "red",
    "mode": "b",
    "size": "large",
}


def test_signature_becomes_a_schema() -> None:
    """Models, dataclasses, enums, literals, unions, times and defaults."""
    handler = made(everything)

    arguments = handler.parse(json.dumps(EVERYTHING))

    assert arguments == {
        "order": Order(number=1, at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        "point": Point(1),
        "colour": Colour.RED,
        "mode": "b",
        "size": "large",
        "when": None,
        "rest": [],
    }
    assert handler.context_name == "ctx"
    assert handler.kind.way is Way.THREAD
    assert handler.kind.description == "Take all there is."
    assert '"required": ["order", "point", "colour", "mode", "size"]' in handler.kind.input_schema
    assert handler.dump(arguments["order"]) == '{"number":1,"at":"2026-01-02T03:04:05Z"}'


@pytest.mark.parametrize(
    "change",
    [
        {"colour": "blue"},
        {"mode": "c"},
        {"size": None},
        {"point": {"x": "one"}},
        {"order": {"number": 1}},
        {"more": 1},
        {"ctx": {}},
        {"rest": [float("nan"), "x"]},
    ],
)
def test_wrong_member_is_named(change: dict[str, object]) -> None:
    """By a JSON pointer."""
    with pytest.raises(InputRefused) as refused:
        made(everything).parse(json.dumps(EVERYTHING | change))

    assert refused.value.problems[0]["pointer"].startswith(f"/{next(iter(change))}")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '"x"', "[" * 5000, '{"anything": ' + "[" * 5000 + "]" * 5000 + "}", b"\xff", "{}"]
)
def test_what_is_no_input_is_refused(text: str | bytes) -> None:
    """Whatever it is."""
    with pytest.raises(InputRefused):
        made(loose).parse(text)


def test_odd_values_pass_through() -> None:
    """Long numbers, and keys that are special elsewhere."""
    handler = made(loose)
    odd = {"anything": {"$set": 1, "a.b": 2, "nul\x00": 3}, "more": 10**400}
    sys.set_int_max_str_digits(5000)

    arguments = handler.parse(json.dumps(odd))

    assert arguments == odd
    assert handler.dump(arguments["anything"]) == '{"$set":1,"a.b":2,"nul\\u0000":3}'


def nested(levels: int) -> object:
    """Write lists in lists."""
    value: object = 1
    for _ in range(levels):
        value = [value]
    return value


@job
def by_id() -> dict[uuid.UUID, str | None]:
    """Return texts by their ids."""
    return {}


@job
def measured() -> dict[str, Any]:
    """Return anything by name."""
    return {}


@job
def distinct() -> set[float]:
    """Return numbers."""
    return set()


class Constant(BaseModel):
    """A number that pydantic writes as no JSON has it."""

    model_config = ConfigDict(ser_json_inf_nan="constants")
    x: float


@job
def constant() -> Constant:
    """Return one."""
    return Constant(x=1)


@job
def tally() -> int:
    """Count."""
    return 0


def test_keys_that_json_does_not_have_are_written_as_texts() -> None:
    """Whatever the values are."""
    ident = uuid.UUID(int=1)

    assert made(by_id).dump({ident: "annulled"}) == f'{{"{ident}":"annulled"}}'
    assert made(by_id).dump({ident: None}) == f'{{"{ident}":null}}'


@pytest.mark.parametrize(
    ("function", "value", "message"),
    [
        (nothing, 1, "annotation"),
        (number, "1", "annotation"),
        (number, float("nan"), "JSON"),
        (number, float("inf"), "JSON"),
        (everything, {"number": 1, "at": "x"}, "annotation"),
        (loose, {1, 2}, "JSON"),
        (loose, object(), "JSON"),
        (loose, float("nan"), "JSON"),
        (loose, "x" * 33_000, "33002 bytes"),
        (loose, "\ud800", "JSON"),
        (loose, DEEP, "JSON"),
        (loose, nested(201), "JSON"),
        (measured, {"a": float("nan")}, "JSON"),
        (distinct, {float("nan")}, "JSON"),
        (constant, Constant(x=float("nan")), "JSON"),
        pytest.param(tally, 10**5000, "JSON", id="digits"),
    ],
)
def test_what_is_no_output_is_refused(function: Any, value: object, message: str) -> None:
    """With what is wrong."""
    with pytest.raises(BadOutput, match=message):
        made(function).dump(value)


def refused(declare: Any) -> str:
    """Why a declaration is refused."""
    with pytest.raises(HandlerError) as error:
        made(declare())
    return str(error.value)


def test_declarations_that_cannot_be_used_say_why() -> None:  # long: a line for each declaration
    """Each with what to do."""

    class Service:
        def method(self) -> None:
            """Belong to a class."""

    def stars(*args: int) -> None:
        """Take any number."""

    def double(ctx: Context, other: Context) -> None:
        """Want the context twice."""

    def unresolved(x: "Unknown") -> None:  # type: ignore[name-defined]  # noqa: F821
        """Name a type that is not there."""

    def impossible(x: subprocess.Popen[bytes]) -> None:
        """Want what cannot be JSON."""

    def generator() -> Any:
        """Yield."""
        yield 1

    assert "not a method" in refused(lambda: job(Service.method))
    assert "partial" in refused(lambda: job(functools.partial(stars, 1)))
    assert "plain function" in refused(lambda: job(Service))
    assert "generator" in refused(lambda: job(generator))
    assert "name each parameter" in refused(lambda: job(stars))
    assert "keep one" in refused(lambda: job(double))
    assert "cannot be resolved" in refused(lambda: job(unresolved))
    assert "cannot be JSON" in refused(lambda: job(impossible))
    assert "cannot be named" in refused(lambda: job(name="Not A Name")(nothing))
    assert "timeout_s" in refused(lambda: job(timeout_s=0)(nothing))
    assert "cooldown_s" in refused(lambda: job(cooldown_s=-1)(nothing))
    assert "give it a key" in refused(lambda: job(cooldown_s=1)(nothing))
    assert "no parameter" in refused(lambda: job(name="keyed", key="{url}")(lambda_like()))
    assert "names no parameter" in refused(lambda: job(key="fixed")(nothing))
    assert "argv" in refused(lambda: command("text", "ls -l"))
    with pytest.raises(ValueError, match="at least one attempt"):
        Retry(attempts=0)
    with pytest.raises(ValueError, match="first_s"):
        Retry(attempts=2, first_s=5, most_s=1)


def lambda_like() -> Any:
    """A function without parameters."""

    def plain() -> None:
        """Do nothing."""

    return plain


def test_two_handlers_of_one_name_are_refused(tmp_path: Path) -> None:
    """Neither is chosen silently."""
    file = tmp_path / "twice.py"
    file.write_text("from hasty import job\n@job\ndef one(): ...\n@job(name='one')\ndef two(): ...\n")
    with pytest.raises(HandlerError, match="two handlers are named one"):
        load(str(file))


def test_module_without_a_handler_is_refused(tmp_path: Path) -> None:
    """With what to do; so is one that is not there."""
    file = tmp_path / "none.py"
    file.write_text("x = 1\n")
    with pytest.raises(HandlerError, match="has no handler"):
        load(str(file))
    with pytest.raises(HandlerError, match="there is no file"):
        load(str(tmp_path / "missing.py"))
    with pytest.raises(HandlerError, match="there is no module"):
        load("no_such_module_anywhere")


def test_version_is_a_hash_of_the_code(tmp_path: Path) -> None:
    """Of what stands beside the module as well, unless it is given."""
    (tmp_path / "beside_it.py").write_text("GREETING = 'hello'\n")
    file = tmp_path / "versioned.py"
    file.write_text("from beside_it import GREETING\nfrom hasty import job\n@job\ndef say(): return GREETING\n")

    loaded = load(str(file))

    assert {path.name for path in loaded.files} == {"beside_it.py", "versioned.py"}
    assert len(loaded.version) == 12
    assert load(str(file), {"HASTY_WORK_VERSION": "v7"}).handlers["say"].kind.version == "v7"


@pytest.mark.parametrize(
    ("template", "values", "key"),
    [
        ("{url}", {"url": "u"}, "u"),
        ("{user}/{n}", {"user": "ü", "n": 7}, "ü/7"),
        ("{url}", {}, None),
        ("{url}", {"url": None}, None),
        ("{url}", {"url": True}, None),
        ("{url}", {"url": 1.5}, None),
        ("{url}", {"url": ""}, None),
        ("{url}", {"url": "x" * 257}, None),
        ("{url}", {"url": "\x1f"}, None),
        ("{url}", {"url": "{other}"}, "{other}"),
    ],
)
def test_key_is_made_of_the_input(template: str, values: dict[str, object], key: str | None) -> None:
    """Of texts and whole numbers; the field is named that gives none."""
    if key is None:
        with pytest.raises(KeyProblem) as problem:
            key_of(template, values)
        assert problem.value.field == "url"
    else:
        assert key_of(template, values) == key


@pytest.mark.parametrize("template", ["fixed", "{}", "{0}", "{a.b}", "{a[0]}", "{a!r}", "{a:>5}"])
def test_template_holds_plain_names_only(template: str) -> None:
    """Nothing is formatted, and nothing is reached into."""
    with pytest.raises(ValueError, match="key"):
        key_of(template, {"a": "x"})


def test_import_of_hasty_is_light() -> None:
    """Neither a server's library nor pydantic comes with it."""
    code = "import sys, hasty; print(*sorted(name.partition('.')[0] for name in sys.modules))"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    heavy = {"motor", "pymongo", "nats", "uvicorn", "fastapi", "structlog", "pydantic", "asyncio", "prometheus_client"}
    assert not heavy & set(done.stdout.split())
