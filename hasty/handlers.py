"""Handlers as they are run: a module's functions and commands, with the schemas of their input and output."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import json
import os
import sys
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, create_model
from pydantic.errors import PydanticSchemaGenerationError, PydanticUndefinedAnnotation, PydanticUserError
from pydantic_core import from_json

from hasty.context import Context
from hasty.declare import DECLARED, Command, Declared
from hasty.errors import HandlerError
from hasty.jobs import INPUT_MAX, Kind, Way
from hasty.keys import fields_of

VERSION_VARIABLE: Final = "HASTY_WORK_VERSION"

_ANY_OBJECT: Final = {"type": "object"}


class InputRefused(ValueError):
    """An input does not fit its handler; `problems` has a JSON pointer and a sentence for each."""

    def __init__(self, problems: list[dict[str, str]]) -> None:
        super().__init__("; ".join(f"{problem['pointer'] or 'the input'}: {problem['detail']}" for problem in problems))
        self.problems = problems


class BadOutput(ValueError):
    """What a handler returned cannot be its output; the text says why."""


@dataclass(frozen=True)
class Handler:
    """A handler that can be run.

    `kind` is what is announced of it. `argv` is a command's program and arguments; a function's are empty.
    """

    kind: Kind
    function: Callable[..., Any] | None
    argv: tuple[str, ...]
    context_name: str | None
    model: type[BaseModel] | None
    output: TypeAdapter[Any] | None

    def parse(self, text: str | bytes) -> dict[str, Any]:
        """Read an input, a JSON object, as the function's arguments.

        Raises:
            InputRefused: when it is not JSON, or does not fit the parameters.
        """
        if self.model is None:
            try:
                parsed: Any = TypeAdapter(dict[str, Any]).validate_json(text)
            except ValidationError as error:
                raise InputRefused(_problems(error)) from None
            return dict(parsed)
        try:
            model = self.model.model_validate_json(text)
        except ValidationError as error:
            raise InputRefused(_problems(error)) from None
        return {name: getattr(model, name) for name in type(model).model_fields}

    def call(self, arguments: Mapping[str, Any], context: Context) -> Any:
        """Call the function; an async one returns what is to be awaited."""
        if self.function is None:
            raise TypeError(f"{self.kind.name} is a command")
        if self.context_name is None:
            return self.function(**arguments)
        return self.function(**arguments, **{self.context_name: context})

    def dump(self, value: Any) -> str:
        """Write an output as JSON.

        Raises:
            BadOutput: when it does not fit the function's annotation, is no JSON, or is longer than 32 KiB.
        """
        try:
            if self.output is None:
                written = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
            else:
                checked = self.output.validate_python(value, strict=True)
                written = self.output.dump_json(checked)
                if b"null" in written:
                    # As pydantic writes what is not a number: within `Any` in its JSON mode as well.
                    json.dumps(self.output.dump_python(checked, mode="json"), allow_nan=False)
                    json.dumps(self.output.dump_python(checked), default=str, allow_nan=False, skipkeys=True)
            # Whoever shows it reads it so: what is nested too deep, or has too many digits, is no output.
            from_json(written, allow_inf_nan=False)
        except ValidationError as error:
            raise BadOutput(f"the output is not what the handler's annotation says: {_first(error)}") from None
        except (TypeError, ValueError, RecursionError) as error:
            raise BadOutput(f"the output cannot be written as JSON: {error}") from None
        if len(written) > INPUT_MAX:
            text = f"the output has {len(written)} bytes of JSON, at most {INPUT_MAX} are kept: return a URL instead"
            raise BadOutput(text)
        return written.decode()


@dataclass(frozen=True)
class Loaded:
    """The handlers of a module, by name; `files` are those that were loaded for it."""

    handlers: dict[str, Handler]
    version: str
    files: tuple[Path, ...]


def load(target: str, environment: Mapping[str, str] = os.environ) -> Loaded:
    """Import a module, named by its path or as `import` names it, and return the handlers in it.

    Raises:
        HandlerError: when there is no such module, no handler in it, or one that cannot be used.
        Exception: whatever the module itself raises.
    """
    known = set(sys.modules)
    declared_before = len(DECLARED)
    module, folder = _imported(target)
    new = [sys.modules[name] for name in set(sys.modules) - known if name in sys.modules]
    files = _files([module, *new], folder)
    declared = DECLARED[declared_before:] or [one for one in DECLARED if one.module == module.__name__]
    if not declared:
        raise HandlerError(f"{target} has no handler: write @job above a function, see docs/handlers.md")
    version = environment.get(VERSION_VARIABLE) or _hash(files)
    handlers: dict[str, Handler] = {}
    for one in declared:
        if one.name in handlers:
            raise HandlerError(f"{target}: two handlers are named {one.name}: give one of them a name= of its own")
        handlers[one.name] = handler_of(one, version)
    return Loaded(handlers, version, tuple(files))


def handler_of(declared: Declared, version: str = "") -> Handler:
    """Return the handler that was declared.

    Raises:
        HandlerError: when a type cannot be JSON, or the key names no parameter.
    """
    if isinstance(declared.target, Command):
        kind = _kind(declared, Way.COMMAND, version, json.dumps(_ANY_OBJECT), "{}")
        return Handler(kind, None, declared.target.argv, None, None, None)
    function = declared.target
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except NameError as error:
        raise HandlerError(f"{declared.name}: an annotation cannot be resolved: {error}") from None
    context_name, fields = _parameters(declared.name, function, hints)
    try:
        config = ConfigDict(extra="forbid", title=declared.name)
        model = create_model(declared.name, __config__=config, **fields)
        output = None if any(hints.get("return", Any) is one for one in (Any, object)) else TypeAdapter(hints["return"])
        input_schema = json.dumps(model.model_json_schema())
        output_schema = "{}" if output is None else json.dumps(output.json_schema(mode="serialization"))
    except (PydanticSchemaGenerationError, PydanticUndefinedAnnotation, PydanticUserError) as error:
        first_line = str(error).splitlines()[0]
        raise HandlerError(f"{declared.name}: a parameter or the return value cannot be JSON: {first_line}") from None
    for name in fields_of(declared.policy.key) if declared.policy.key is not None else ():
        if name not in fields:
            raise HandlerError(f"{declared.name}: the key names {name!r}, which is no parameter of the function")
    kind = _kind(declared, _way(declared, function), version, input_schema, output_schema)
    return Handler(kind, function, (), context_name, model, output)


def _way(declared: Declared, function: Callable[..., Any]) -> Way:
    if declared.policy.process:
        return Way.PROCESS
    return Way.ASYNC if inspect.iscoroutinefunction(function) else Way.THREAD


def _kind(declared: Declared, way: Way, version: str, input_schema: str, output_schema: str) -> Kind:
    policy = declared.policy
    description = "" if isinstance(declared.target, Command) else inspect.getdoc(declared.target) or ""
    return Kind(
        declared.name,
        way,
        version,
        input_schema,
        output_schema,
        description.partition("\n\n")[0],
        policy.key,
        policy.cooldown_s,
        policy.retry.attempts,
        policy.retry.first_s,
        policy.retry.most_s,
        policy.timeout_s,
        policy.at_most_once,
    )


def _parameters(name: str, function: Callable[..., Any], hints: Mapping[str, Any]) -> tuple[str | None, dict[str, Any]]:
    """Return the name of the parameter that gets the context, if any, and the fields of the input."""
    context_name: str | None = None
    fields: dict[str, Any] = {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}:
            raise HandlerError(f"{name}: *{parameter.name} has no names and types to check: name each parameter")
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise HandlerError(f"{name}: {parameter.name} is positional only: remove the / after it")
        annotation = hints.get(parameter.name, Any)
        if annotation is Context:
            if context_name is not None:
                raise HandlerError(f"{name}: both {context_name} and {parameter.name} are a Context: keep one")
            context_name = parameter.name
            continue
        if parameter.name.startswith("_"):
            raise HandlerError(f"{name}: a parameter cannot be named {parameter.name!r}: no _ at the beginning")
        fields[parameter.name] = (annotation, ... if parameter.default is parameter.empty else parameter.default)
    return context_name, fields


def _imported(target: str) -> tuple[ModuleType, Path]:
    if not target.endswith(".py") and os.sep not in target:
        try:
            module = importlib.import_module(target)
        except ModuleNotFoundError as error:
            if error.name and (target == error.name or target.startswith(f"{error.name}.")):
                raise HandlerError(
                    f"there is no module {target!r}: give a path as in ./tasks.py, or install it"
                ) from None
            raise
        file = module.__file__
        return module, Path(file).resolve().parent if file else Path.cwd()
    path = Path(target).resolve()
    if not path.is_file():
        raise HandlerError(f"there is no file {target}: name the Python file that has your handlers")
    # What stands beside it can be imported, as by a script.
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise HandlerError(f"{target} is no Python file: its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[path.stem]
        raise
    return module, path.parent


def _files(modules: Iterable[ModuleType], folder: Path) -> list[Path]:
    """Return the files of these modules that are the user's own: those in the folder of the first one or below."""
    found = {Path(file).resolve() for module in modules if isinstance(file := getattr(module, "__file__", None), str)}
    return sorted(file for file in found if folder in file.parents and "site-packages" not in file.parts)


def _hash(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:12]


def _problems(error: ValidationError) -> list[dict[str, str]]:
    return [
        {
            "pointer": "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in one["loc"]),
            "detail": one["msg"],
        }
        for one in error.errors(include_url=False, include_context=False, include_input=False)
    ]


def _first(error: ValidationError) -> str:
    one = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(map(str, one["loc"]))
    return f"{where}: {one['msg']}" if where else str(one["msg"])
