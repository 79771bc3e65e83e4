"""The logins of a stack's own broker and databases: made once for a folder, and readable by its owner only."""

import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from hasty.server.database_users import Login
from hasty.server.local_stack.config import API_MONGO, JOB_MONGO, NATS
from hasty.server.local_stack.errors import StackError

NATS_SYSTEM = "nats-system"
"""Asks the broker whether it is healthy, and can do nothing with its streams."""

USERS = {NATS: "hasty", NATS_SYSTEM: "health", API_MONGO: "api-server", JOB_MONGO: "job-server"}
FILE = "logins.json"
_LOGINS = TypeAdapter(dict[str, Login])


@dataclass(frozen=True)
class Logins:
    """By part, who may use it."""

    by_part: dict[str, Login]

    def __getitem__(self, part: str) -> Login:
        """The login of a part."""
        return self.by_part[part]


def new_logins() -> Logins:
    """Logins that nobody knows yet."""
    return Logins({part: Login(user=user, password=secrets.token_urlsafe(32)) for part, user in USERS.items()})


def logins_in(folder: Path) -> Logins:
    """Read the logins of a folder; what is missing is made.

    StackError when the file does not hold logins.
    """
    path = folder / FILE
    try:
        kept = _LOGINS.validate_json(path.read_bytes())
    except FileNotFoundError:
        kept = {}
    except ValidationError as error:
        raise StackError(f"{path} does not hold logins ({error.error_count()} mistakes): remove it") from error
    logins = Logins({**new_logins().by_part, **kept})
    if logins.by_part != kept:
        write_private(path, json.dumps({part: login.model_dump() for part, login in logins.by_part.items()}, indent=2))
    path.chmod(0o600)
    return logins


def write_private(path: Path, text: str) -> None:
    """Write a file, whole or not at all, that its owner only may read."""
    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:  # noqa: PTH123 - with its mode
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
