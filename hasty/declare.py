"""How a function or a command becomes a handler: `@job` and `command`. Standard library only."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar, overload

from hasty.errors import HandlerError
from hasty.jobs import KIND_NAME
from hasty.keys import fields_of
from hasty.retry import Retry

F = TypeVar("F", bound=Callable[..., Any])

TIMEOUT_S: Final = 3600.0
"""How long a run may take where its handler does not say."""


@dataclass(frozen=True)
class Policy:
    """What a handler asks for, besides its code; see `job`."""

    retry: Retry = Retry()  # noqa: RUF009 - it is immutable
    timeout_s: float = TIMEOUT_S
    key: str | None = None
    cooldown_s: float = 0.0
    process: bool = False
    at_most_once: bool = False


@dataclass(frozen=True)
class Command:
    """A program that does jobs: JSON on its standard input and output."""

    name: str
    argv: tuple[str, ...]


@dataclass(frozen=True)
class Declared:
    """A handler as its module declares it."""

    name: str
    target: Callable[..., Any] | Command
    policy: Policy
    module: str


DECLARED: Final[list[Declared]] = []
"""Everything that was declared in this process, in order."""


@overload
def job(function: F, /) -> F: ...
@overload
def job(
    *,
    name: str | None = None,
    retry: Retry = ...,
    timeout_s: float = ...,
    key: str | None = None,
    cooldown_s: float = ...,
    process: bool = ...,
    at_most_once: bool = ...,
) -> Callable[[F], F]: ...
def job(
    function: F | None = None,
    /,
    *,
    name: str | None = None,
    retry: Retry = Retry(),  # noqa: B008 - it is immutable
    timeout_s: float = TIMEOUT_S,
    key: str | None = None,
    cooldown_s: float = 0.0,
    process: bool = False,
    at_most_once: bool = False,
) -> F | Callable[[F], F]:
    """Make a function the handler of a kind of jobs; the function stays as it is.

    Its parameters are the input, its return value is the output; a parameter that is annotated with `Context` gets the
    run's context. An async function runs on an event loop, any other one in a thread.

    Args:
        function: the function, where `@job` stands without parentheses.
        name: the kind's name; the function's own, if not given.
        retry: how often a run that raised is tried again, and after which waits; by default, never.
        timeout_s: how long a run may take, in seconds.
        key: a template over the input, as in ``"{url}"``: one job at a time has its key's place.
        cooldown_s: for so long after its creation, a job keeps the place of its key even when it has ended.
        process: run it in a process of its own, which can be killed: for work that keeps a processor busy.
        at_most_once: never start a run a second time after a crash: the job then fails as ``lost``.

    Raises:
        HandlerError: when the function or an argument cannot be used.
    """
    policy = Policy(retry, timeout_s, key, cooldown_s, process, at_most_once)

    def declare(target: F) -> F:
        function = _function(target)
        _declare(name or function.__name__, function, policy, function.__module__)
        return target

    return declare if function is None else declare(function)


def command(
    name: str,
    argv: Sequence[str],
    *,
    retry: Retry = Retry(),  # noqa: B008 - it is immutable
    timeout_s: float = TIMEOUT_S,
    key: str | None = None,
    cooldown_s: float = 0.0,
    at_most_once: bool = False,
) -> Command:
    """Make a program the handler of a kind of jobs, in any language.

    It gets the input as JSON on its standard input, and writes the output as JSON to its standard output. Exit code 0
    is success; 65 is `Fail`, with what it wrote to standard error as the message; any other is an error. Its
    environment has ``HASTY_JOB_ID``, ``HASTY_KIND``, ``HASTY_ATTEMPT`` and ``HASTY_RUN``.

    Raises:
        HandlerError: when an argument cannot be used.
    """
    if isinstance(argv, str) or not argv or not all(isinstance(part, str) for part in argv):
        raise HandlerError(f"the command {name!r}: argv must be a list of texts, as in ['./thumb.sh']")
    made = Command(name, tuple(argv))
    caller = inspect.currentframe()
    module = caller.f_back.f_globals.get("__name__", "?") if caller is not None and caller.f_back is not None else "?"
    _declare(name, made, Policy(retry, timeout_s, key, cooldown_s, at_most_once=at_most_once), module)
    return made


def _function(target: Callable[..., Any]) -> Callable[..., Any]:
    what = f"@job on {getattr(target, '__qualname__', target)!r}"
    if isinstance(target, functools.partial):
        raise HandlerError(f"{what}: a partial has no name and no types: write a function that calls it")
    if not inspect.isfunction(target):
        raise HandlerError(f"{what}: it must stand above a plain function, not above a {type(target).__name__}")
    if "." in target.__qualname__.rpartition("<locals>.")[2]:
        raise HandlerError(f"{what}: it must be a function of a module, not a method")
    if inspect.isgeneratorfunction(target) or inspect.isasyncgenfunction(target):
        raise HandlerError(f"{what}: a generator returns no output: return it as a whole")
    return target


def _declare(name: str, target: Callable[..., Any] | Command, policy: Policy, module: str) -> None:
    if not KIND_NAME.fullmatch(name):
        raise HandlerError(f"a kind cannot be named {name!r}: use 1 to 64 of a to z, 0 to 9 and _, with a letter first")
    if not policy.timeout_s > 0:
        raise HandlerError(f"{name}: timeout_s is {policy.timeout_s!r}: it must be above 0")
    if policy.cooldown_s < 0:
        raise HandlerError(f"{name}: cooldown_s is {policy.cooldown_s!r}: it must not be below 0")
    if policy.cooldown_s and policy.key is None:
        raise HandlerError(f"{name}: cooldown_s is for the jobs of a key: give it a key as well, as in key='{{url}}'")
    if policy.key is not None:
        try:
            fields_of(policy.key)
        except ValueError as error:
            raise HandlerError(f"{name}: {error}") from None
    DECLARED.append(Declared(name, target, policy, module))
