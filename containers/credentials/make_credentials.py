# ruff: noqa: INP001, T201 - a program of its own, which speaks on standard output
"""Makes the passwords of the system's own NATS and MongoDBs, each once, and hands everyone the ones they need.

    make_credentials.py                 make what is missing; what exists stays as it is
    make_credentials.py rotate SECRET   replace one; the old one is kept as SECRET.previous
    make_credentials.py settle SECRET   forget the old one

The secrets themselves live in /credentials/secrets, which nobody else mounts. From them the folder of each consumer,
a volume of its own, is written anew at every run, so that a lost volume heals. containers/credentials/rotate calls
`rotate` and `settle`.
"""

import os
import secrets
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

ROOT = Path("/credentials")
SECRETS = ("nats-api", "nats-setup", "nats-job", "api-mongo", "job-mongo")
MONGO_GROUP = 999
"""The official MongoDB image runs as this group; the container's `group_add` lets us give it files."""


def mongo_url(secret: str, host: str, database: str) -> str:
    """The address a service logs in with; the user is the one MONGO_INITDB_ROOT_USERNAME names."""
    return f"mongodb://hasty:{secret}@{host}:27017/{database}?authSource=admin"


def nats_url(user: str, secret: str) -> str:
    """The address one user of the broker connects with."""
    return f"nats://{user}:{secret}@nats:4222"


def nats_passwords(secret_of: Mapping[str, str]) -> str:
    """The variables that nats-server.conf refers to."""
    return "".join(f'{user}_password: "{secret_of[f"nats-{user}"]}"\n' for user in ("api", "setup", "job"))


FILES: Mapping[str, Callable[[Mapping[str, str]], str]] = {
    "api-server/nats_url": lambda secret_of: nats_url("api", secret_of["nats-api"]),
    "api-server/nats_setup_url": lambda secret_of: nats_url("setup", secret_of["nats-setup"]),
    "api-server/mongo_url": lambda secret_of: mongo_url(secret_of["api-mongo"], "api-mongo", "hasty_api"),
    "job-server/nats_url": lambda secret_of: nats_url("job", secret_of["nats-job"]),
    "job-server/mongo_url": lambda secret_of: mongo_url(secret_of["job-mongo"], "job-mongo", "hasty_job"),
    "nats/passwords.conf": nats_passwords,
    "api-mongo/password": lambda secret_of: secret_of["api-mongo"],
    "job-mongo/password": lambda secret_of: secret_of["job-mongo"],
}


def write(path: Path, text: str, group: int | None = None) -> None:
    """Replaces a file in one step, readable by its owner, and by the group if one is given."""
    fresh = path.with_name(f".{path.name}.fresh")
    fresh.unlink(missing_ok=True)
    fresh.touch(mode=0o600)
    fresh.write_text(text)
    if group is not None:
        os.chown(fresh, -1, group)
    fresh.chmod(0o400 if group is None else 0o440)
    with fresh.open("rb") as file:
        os.fsync(file.fileno())
    fresh.replace(path)


def make_missing() -> None:
    """Makes every secret that does not exist yet, then writes what the consumers read."""
    for name in SECRETS:
        path = ROOT / "secrets" / name
        if not path.exists():
            write(path, secrets.token_urlsafe(32))
            print(f"made {name}")
    hand_out(SECRETS)


def hand_out(names: tuple[str, ...]) -> None:
    """Writes the consumers' files; during a rotation also the services' old addresses, as *.previous."""
    secret_of = {name: (ROOT / "secrets" / name).read_text() for name in names}
    for file, content in FILES.items():
        write(ROOT / file, content(secret_of), MONGO_GROUP if file.endswith("/password") else None)
    for service, name in (("api-server", "api-mongo"), ("job-server", "job-mongo")):
        previous = ROOT / "secrets" / f"{name}.previous"
        copy = ROOT / service / "mongo_url.previous"
        if previous.exists():
            write(copy, FILES[f"{service}/mongo_url"]({**secret_of, name: previous.read_text()}))
        else:
            copy.unlink(missing_ok=True)


def rotate(name: str) -> None:
    """Replaces a secret and keeps the old one until `settle`; an unfinished rotation is left as it is."""
    path = ROOT / "secrets" / name
    previous = path.with_name(f"{name}.previous")
    if previous.exists():
        print(f"{name} is being rotated already")
    else:
        write(previous, path.read_text())
        write(path, secrets.token_urlsafe(32))
        print(f"rotated {name}")
    hand_out(SECRETS)


def settle(name: str) -> None:
    """Forgets the old secret."""
    (ROOT / "secrets" / f"{name}.previous").unlink(missing_ok=True)
    hand_out(SECRETS)


def main(arguments: list[str]) -> int:
    """Does what the command line says; 2 for a command line that says nothing we know."""
    match arguments:
        case []:
            make_missing()
        case ["rotate", name] if name in SECRETS:
            rotate(name)
        case ["settle", name] if name in SECRETS:
            settle(name)
        case _:
            print(f"usage: make_credentials.py [rotate|settle {{{'|'.join(SECRETS)}}}]", file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
