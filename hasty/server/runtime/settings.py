"""Settings of a process, from the environment and nowhere else: read once, at the start, and checked there."""

import difflib
import os
import re
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import annotated_types as at
from pydantic import Field, GetCoreSchemaHandler, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, ErrorDetails, core_schema
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "HASTY_"
FILE_SUFFIX = "_FILE"
EXIT_BAD_SETTINGS = 2

# Everything any part of Hasty reads, so that one part does not take another's variable for a typing error.
KNOWN = frozenset(
    PREFIX + name
    for name in (
        "ACK_WAIT_S",
        "ASYNC_SLOTS",
        "API_MONGO_URL",
        "BIND_HOST",
        "BIND_PORT",
        "COOLDOWN_S",
        "DRAIN_DELAY_S",
        "DISK_FLOOR_MIB",
        "DISK_FOLDERS",
        "FAULTS_DIR",
        "HTTP_PORT",
        "JOB_CONCURRENCY",
        "JOB_MONGO_URL",
        "JOB_SLEEP_MAX_S",
        "JOB_SLEEP_MIN_S",
        "JOB_TIMEOUT_S",
        "LOG_FORMAT",
        "LOG_LEVEL",
        "NATS_REPLICAS",
        "NATS_SETUP",
        "NATS_SETUP_URL",
        "NATS_URL",
        "OVERDUE_S",
        "PROCESSES",
        "PROFILE",  # the command's
        "RETENTION_DAYS",
        "ROOT_KIND",
        "SHUTDOWN_GRACE_S",
        "SILENCE_S",
        "THREADS",
        "TAG",  # of the images: compose's
        "UI",
        "UI_HOSTS",
        "URL",
        "WORK",
        "WORK_FOLDER",  # mounted into the job-servers: compose's
        "WORK_PYTHON",
        "WORK_VERSION",
        "WORK_WATCH",
    )
)
# Settings that have a new name, by the old one; the old one works for one version, with a warning.
RENAMED = {f"{PREFIX}LINGER_S": f"{PREFIX}DRAIN_DELAY_S"}
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)

S = TypeVar("S", bound=BaseSettings)
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class UrlOf:
    """Annotates a text setting that must be a URL of one of these schemes.

    With `several`, a comma-separated list of such URLs.
    """

    schemes: tuple[str, ...]
    several: bool = False

    def __get_pydantic_core_schema__(self, source: type[Any], handler: GetCoreSchemaHandler) -> CoreSchema:
        """Let pydantic call `check` after its own checks."""
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def check(self, value: str) -> str:
        """Return the value as it is; ValueError when it is not such a URL."""
        for url in value.split(",") if self.several else (value,):
            scheme, separator, rest = url.strip().partition("://")
            if scheme not in self.schemes or not separator or not rest.strip("/"):
                raise ValueError
        return value

    def __str__(self) -> str:
        starts = " or ".join(f"{scheme}://" for scheme in self.schemes)
        return f"a URL that starts with {starts}" + (" (several: separated by commas)" if self.several else "")


class ProcessSettings(BaseSettings):
    """The settings of every Hasty process; a service adds its own fields in a subclass.

    Field `x` is the variable `HASTY_X`; an empty variable counts as not set. Names that end in `_s` are seconds.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", env_ignore_empty=True)

    nats_url: Annotated[str, UrlOf(("nats", "tls", "ws", "wss"), several=True)] = Field(
        default="nats://127.0.0.1:4222", description="one or more NATS servers"
    )
    bind_host: str = Field(default="127.0.0.1", description="the address to listen on")
    bind_port: int = Field(ge=0, le=65535, description="the port to listen on")
    shutdown_grace_s: float = Field(default=10, ge=0, allow_inf_nan=False, description="how long a stop may take")
    ack_wait_s: Seconds = Field(
        default=50, description="seconds without a heartbeat before a job is redelivered; the same for all services"
    )
    silence_s: Seconds = Field(
        default=20, description="the process exits when broker or event loop have not answered for so long"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="the least level")
    log_format: Literal["text", "json"] | None = Field(
        default=None, description="text on a terminal and json elsewhere, if not set"
    )
    faults_dir: Path | None = Field(default=None, description="only for tests: where faults to inject are read from")

    def warnings(self) -> Iterator[str]:
        """Lines about settings that are valid, but hardly intended."""
        yield from ()


def load(cls: type[S], known: Collection[str] = KNOWN) -> S:
    """Read a service's settings from the environment.

    A URL setting may come from a file: `HASTY_X_URL_FILE` names it. What is wrong is written to stderr, one line for
    each variable, without passwords. A variable that is neither one of `known` nor of `cls` is warned about, with the
    nearest name.

    Raises:
        SystemExit: with code 2, when a value is missing or wrong.
    """
    environment = {name.upper(): value for name, value in os.environ.items() if value}
    for warning in _mistyped(environment, {*known, *RENAMED, *map(variable_of, cls.model_fields)}):
        _print(warning)
    values: dict[str, Any] = _from_old_names(cls, environment)
    problems: dict[str, str] = {}  # by field; "" stands for a rule between several fields
    for field in cls.model_fields:
        try:
            values |= _from_file(field, environment)
        except ValueError as error:
            problems[field] = str(error)
    try:
        settings = cls(**values)
    except ValidationError as error:
        for details in error.errors(include_url=False):
            field = str(details["loc"][0]) if details["loc"] else ""
            problems.setdefault(field, _problem(cls, field, details))
    if not problems:
        for warning in settings.warnings() if isinstance(settings, ProcessSettings) else ():
            _print(warning)
        return settings
    for problem in problems.values():
        _print(problem)
    raise SystemExit(EXIT_BAD_SETTINGS)


def without_credentials(url: str) -> str:
    """A URL, or several separated by commas, as it may be shown: nothing before its last @, and no options.

    Passwords may hold any character, so where it is not clear what belongs to one, it is left out.
    """
    starts = _SCHEME.match(url)
    scheme = starts.group() if starts else ""
    secret, at_sign, hosts = url.removeprefix(scheme).rpartition("@")
    if "?" in secret:
        return f"{scheme}***"
    return scheme + ("***@" if at_sign else "") + hosts.partition("?")[0]


def variable_of(field: str) -> str:
    """The environment variable that a setting is read from."""
    return PREFIX + field.upper()


def _from_old_names(cls: type[BaseSettings], environment: Mapping[str, str]) -> dict[str, str]:
    """The values of settings whose old names are still used; each use is warned about."""
    values = {}
    for field in cls.model_fields:
        new = variable_of(field)
        for old in (old for old, name in RENAMED.items() if name == new and old in environment):
            if new in environment:
                _print(f"{old} is ignored: its new name {new} is set as well; remove {old}")
            else:
                _print(f"{old} is now called {new}: the old name works in this version only, please rename it")
                values[field] = environment[old]
    return values


def _from_file(field: str, environment: Mapping[str, str]) -> dict[str, str]:
    """The value of a URL setting whose variable with `_FILE` names a file; ValueError when that cannot be done."""
    variable = variable_of(field)
    path = environment.get(variable + FILE_SUFFIX)
    if not field.endswith("_url") or path is None:
        return {}
    if variable in environment:
        raise ValueError(f"{variable} and {variable}{FILE_SUFFIX} are both set: set one of them")
    try:
        return {field: Path(path).read_text(encoding="utf-8").strip()}
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8"
        message = f"{variable}{FILE_SUFFIX} is {path!r}: it must name a file that can be read ({why})"
        raise ValueError(message) from error


def _problem(cls: type[BaseSettings], field: str, details: ErrorDetails) -> str:
    """One line about one wrong setting, or in its own words about a rule between several of them."""
    if not field:
        return _own_words(details)
    must = f"it must be {may_hold(field, cls.model_fields[field])}"
    if details["type"] == "missing":
        return f"{variable_of(field)} is not set: {must}"
    if details["type"] == "value_error" and _own_words(details):
        must = _own_words(details)
    value = details["input"]
    shown = without_credentials(value) if isinstance(value, str) and field.endswith("_url") else value
    return f"{variable_of(field)} is {shown!r}: {must}"


def _own_words(details: ErrorDetails) -> str:
    return str(details.get("ctx", {}).get("error", details["msg"]))


def may_hold(field: str, info: FieldInfo) -> str:
    """What a setting may hold, in words, from its type and bounds."""
    types, rules = _types_and_rules(info)
    urls = [str(rule) for rule in rules if isinstance(rule, UrlOf)]
    if urls:
        return urls[0]
    choices = [str(choice) for part in types if get_origin(part) is Literal for choice in get_args(part)]
    if choices:
        return f"one of {', '.join(choices)}"
    if bool in types:
        return "true or false"
    kind = "a whole number" if int in types else "a number" if float in types else "text"
    unit = " of seconds" if field.endswith("_s") and kind != "text" else ""
    return f"{kind}{unit}{_bounds(rules)}"


def _types_and_rules(info: FieldInfo) -> tuple[list[Any], list[Any]]:
    """The types a setting may have, and the rules annotated to it or to one of them, as in `Seconds | None`."""
    types: list[Any] = []
    rules: list[Any] = list(info.metadata)
    for part in (info.annotation, *get_args(info.annotation)):
        types.append(get_args(part)[0] if get_origin(part) is Annotated else part)
        for rule in getattr(part, "__metadata__", ()):
            rules.extend(rule.metadata if isinstance(rule, FieldInfo) else [rule])
    return types, rules


def _bounds(rules: Collection[Any]) -> str:
    lowest = [rule.ge for rule in rules if isinstance(rule, at.Ge)]
    highest = [rule.le for rule in rules if isinstance(rule, at.Le)]
    above = [rule.gt for rule in rules if isinstance(rule, at.Gt)]
    below = [rule.lt for rule in rules if isinstance(rule, at.Lt)]
    words = [f"from {lowest[0]} to {highest[0]}"] if lowest and highest else []
    words += [f"not below {bound}" for bound in lowest if not highest]
    words += [f"not above {bound}" for bound in highest if not lowest]
    words += [f"above {bound}" for bound in above] + [f"below {bound}" for bound in below]
    return f" {' and '.join(words)}" if words else ""


def _mistyped(environment: Mapping[str, str], known: Collection[str]) -> Iterator[str]:
    known = {*known, *(name + FILE_SUFFIX for name in known if name.endswith("_URL"))}
    names = {name.removeprefix(PREFIX): name for name in known}
    for variable in sorted(environment):
        if not variable.startswith(PREFIX) or variable in known:
            continue
        for close in difflib.get_close_matches(variable.removeprefix(PREFIX), names, n=1, cutoff=0):
            yield f"{variable} is not a setting of Hasty and is ignored: did you mean {names[close]}?"


def _print(line: str) -> None:
    sys.stderr.write(" ".join(line.split()) + "\n")
