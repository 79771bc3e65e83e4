"""Whether an input fits a kind's schema (JSON Schema, as pydantic writes it)."""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from itertools import islice
from typing import Any, Final

from api_server.errors import InputProblem
from hasty.server.runtime.logs import get_logger

log = get_logger(__name__)

PROBLEMS_MAX: Final = 20
DETAIL_MAX: Final = 300
"""So many problems of an input are named, each in so many characters."""

REMEMBERED: Final = 256
"""So many schemas stay compiled."""


class Schemas:
    """Compiled schemas, by their text."""

    def __init__(self) -> None:
        self._compiled: dict[str, Any] = {}

    def problems(self, schema: str, value: object) -> list[InputProblem]:
        """Say what of an input does not fit a schema; nothing when it fits."""
        validator = self._compile(schema)
        if validator is None or validator.is_valid(value):
            return []
        return [
            InputProblem(pointer(error.instance_path), _shortened(error.message))
            for error in islice(validator.iter_errors(value), PROBLEMS_MAX)
        ]

    def _compile(self, schema: str) -> Any:
        """Compile a schema; None when that cannot be done: then the input is checked by the handler alone."""
        if schema not in self._compiled:
            # Imported when first needed: it takes 8 MB, and a system that only sleeps has no schemas.
            jsonschema_rs = importlib.import_module("jsonschema_rs")
            try:
                # No reference is followed to other hosts.
                validator = jsonschema_rs.validator_for(json.loads(schema), offline=True)
            except ValueError as error:
                log.warning("schema_invalid", reason=_shortened(str(error)))
                validator = None
            self._compiled[schema] = validator
            if len(self._compiled) > REMEMBERED:
                del self._compiled[next(iter(self._compiled))]
        return self._compiled[schema]


def pointer(path: Sequence[str | int]) -> str:
    """Write a path into a JSON document as a JSON Pointer (RFC 6901)."""
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in path)


def _shortened(text: str) -> str:
    return text if len(text) <= DETAIL_MAX else f"{text[: DETAIL_MAX // 2]} ... {text[-DETAIL_MAX // 3 :]}"
