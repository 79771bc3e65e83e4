# ruff: noqa: INP001 - a program of its own
"""Makes the logins of the system's own NATS and MongoDBs, each once, and hands everyone the ones they need.

    make_credentials.py                 make what is missing; what exists stays as it is
    make_credentials.py rotate LOGIN... make another user, and keep the old one beside it as LOGIN.previous
    make_credentials.py settle LOGIN... forget the old one

The logins themselves live in /credentials/logins, which nobody else mounts. From them the folder of each consumer, a
volume of its own, is written anew at every run, so that a lost volume heals. containers/credentials/rotate calls
`rotate` and `settle`.
"""

import contextlib
import json
import os
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, TextIO

ROOT = Path("/credentials")
NATS_USERS = ("api", "setup", "job")
# What each listens to besides its own inboxes.
NATS_SUBSCRIPTIONS = {
    "api": ("hasty.pulse", "hasty.forgot", "hasty.applied"),
    "setup": ("hasty.set_up",),
    "job": ("hasty.cancel", "hasty.forget", "hasty.holds"),
}
# By login: the service that uses it and the name of the service's database.
DATABASES = {"api-mongo": ("api-server", "hasty_api"), "job-mongo": ("job-server", "hasty_job")}
# Beside its service's login, each database has one of an administrator, which no service sees.
ROOT_OF = {name: f"{name}-root" for name in DATABASES}
LOGINS = (*(f"nats-{user}" for user in NATS_USERS), *DATABASES, *ROOT_OF.values())
PREVIOUS = ".previous"
# What version 0.1 gave to services that must not have it any more.
STALE = ("api-server/nats_setup_url", "api-server/mongo_url.previous", "job-server/mongo_url.previous")
# The official MongoDB image runs as this group; the container's `group_add` lets us give it files.
MONGO_GROUP = 999


class Login(NamedTuple):
    """A user and its password."""

    user: str
    password: str


def say(text: str, stream: TextIO | None) -> None:
    """Write a line, unless nobody can read it: a full disk must not keep the system from starting.

    Nothing is left in a buffer, which Python would try to write again at its end. A closed output is None.
    """
    if stream is not None:
        with contextlib.suppress(OSError):
            os.write(stream.fileno(), f"{text}\n".encode())


def fresh(name: str, *, first: bool) -> Login:
    """A login nobody knows yet; the user's name tells it from the one it replaces."""
    user = "hasty-root" if name in ROOT_OF.values() else DATABASES.get(name, (name.removeprefix("nats-"),))[0]
    return Login(user if first else f"{user}-{secrets.token_hex(4)}", secrets.token_urlsafe(32))


def stored(name: str) -> Path:
    """Where a login is kept."""
    return ROOT / "logins" / name


def read(name: str) -> Login:
    """A login that exists."""
    user, password = stored(name).read_text().split()
    return Login(user, password)


def write(path: Path, text: str, group: int | None = None) -> None:
    """Replace a file in one step, readable by its owner, and by the group if one is given."""
    draft = path.with_name(f".{path.name}.draft")
    draft.unlink(missing_ok=True)
    draft.touch(mode=0o600)
    draft.write_text(text)
    if group is not None:
        os.chown(draft, -1, group)
    draft.chmod(0o400 if group is None else 0o440)
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    draft.replace(path)


def mongo_url(login: Login, host: str, database: str) -> str:
    """The address a service logs in with; retryable writes are for replica sets."""
    return f"mongodb://{login.user}:{login.password}@{host}:27017/{database}?authSource=admin&retryWrites=false"


def nats_url(login: Login) -> str:
    """The address one user of the broker connects with."""
    return f"nats://{login.user}:{login.password}@nats:4222"


def nats_users(logins: Mapping[str, Login]) -> str:
    """The variables that nats-server.conf refers to; where nobody is being replaced, the previous user is nobody's."""
    lines = []
    for user in NATS_USERS:
        name = f"nats-{user}"
        previous = logins.get(name + PREVIOUS) or fresh(name, first=False)
        for prefix, login in (("", logins[name]), ("previous_", previous)):
            lines += [
                f'{prefix}{user}_user: "{login.user}"',
                f'{prefix}{user}_password: "{login.password}"',
                f"{prefix}{user}_subscribe: {json.dumps([f'_INBOX_{login.user}.>', *NATS_SUBSCRIPTIONS[user]])}",
            ]
    return "\n".join(lines) + "\n"


def hand_out() -> None:
    """Write what the consumers read. Only who makes a database's users sees the logins that are being replaced."""
    names = [name for name in (*LOGINS, *(name + PREVIOUS for name in LOGINS)) if stored(name).exists()]
    logins = {name: read(name) for name in names}
    write(ROOT / "api-server/nats_url", nats_url(logins["nats-api"]))
    write(ROOT / "set-up/nats_url", nats_url(logins["nats-setup"]))
    write(ROOT / "job-server/nats_url", nats_url(logins["nats-job"]))
    write(ROOT / "nats/users.conf", nats_users(logins))
    for name, (service, database) in DATABASES.items():
        root = ROOT_OF[name]
        write(ROOT / name / "username", logins[root].user, MONGO_GROUP)
        write(ROOT / name / "password", logins[root].password, MONGO_GROUP)
        write(ROOT / service / "mongo_url", mongo_url(logins[name], name, database))
        wanted = {
            "address": f"{name}:27017",
            "database": database,
            "roots": [login._asdict() for login in new_and_previous(logins, root)],
            "users": [login._asdict() for login in new_and_previous(logins, name)],
        }
        write(ROOT / f"{name}-users/wanted.json", json.dumps(wanted))
    for stale in STALE:
        (ROOT / stale).unlink(missing_ok=True)


def new_and_previous(logins: Mapping[str, Login], name: str) -> list[Login]:
    """A login, and the one it replaces, if it is being replaced."""
    return [logins[key] for key in (name, name + PREVIOUS) if key in logins]


def make(name: str) -> None:
    """Make a login that does not exist yet."""
    if not stored(name).exists():
        write(stored(name), " ".join(fresh(name, first=True)))
        say(f"made {name}", sys.stdout)


def part_root(name: str) -> None:
    """Part the administrator of a database from its service: up to version 0.1 they had one login.

    That one stays as the previous administrator, so that the new one can be made with it, until it is rotated.
    """
    root = ROOT_OF[name]
    if not stored(name).exists() or stored(root).exists():
        return
    # The new administrator is written last: then all is done, and before, everything is repeated.
    if not stored(root + PREVIOUS).exists():
        write(stored(root + PREVIOUS), " ".join(read(name)))
    write(stored(name), " ".join(fresh(name, first=False)))
    write(stored(root), " ".join(fresh(root, first=False)))
    say(f"parted {root} from {name}", sys.stdout)


def rotate(name: str) -> None:
    """Replace a login and keep the old one until `settle`; a rotation that was begun goes on."""
    previous = stored(name + PREVIOUS)
    if previous.exists():
        say(f"{name} is being rotated already", sys.stdout)
    else:
        write(previous, " ".join(read(name)))
        write(stored(name), " ".join(fresh(name, first=False)))
        say(f"rotated {name}", sys.stdout)


def settle(name: str) -> None:
    """Forget the old login."""
    stored(name + PREVIOUS).unlink(missing_ok=True)


def main(arguments: list[str]) -> int:
    """Do what the command line says; 2 for a command line that says nothing we know."""
    match arguments:
        case []:
            for name in DATABASES:
                part_root(name)
            for name in LOGINS:
                make(name)
        case ["rotate", *names] if names and set(names) <= set(LOGINS):
            for name in names:
                rotate(name)
        case ["settle", *names] if names and set(names) <= set(LOGINS):
            for name in names:
                settle(name)
        case _:
            say(f"usage: make_credentials.py [rotate|settle {{{'|'.join(LOGINS)}}}...]", sys.stderr)
            return 2
    hand_out()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
