"""What cannot be reached or done from inside a container, and from the host."""

import pytest

from tests.compose.project import Project, command, inspect

JETSTREAM = (
    "STREAM.PURGE",
    "STREAM.DELETE",
    "STREAM.MSG.DELETE",
    "STREAM.MSG.GET",
    "STREAM.RESTORE",
    "STREAM.SNAPSHOT",
)
EVERYBODY_REFUSED = (
    *(f"pub:$JS.API.{call}.JOBS" for call in JETSTREAM),
    "pub:$JS.API.STREAM.CREATE.OTHER",
    "pub:$JS.API.DIRECT.GET.JOBS",
    "pub:$JS.API.CONSUMER.DELETE.JOBS.job-created-group",
    "pub:$SYS.REQ.SERVER.PING",
    "pub:$JS.API.ACCOUNT.PURGE",
    "sub:>",
    "sub:job:created",
    "sub:$JS.>",
    "sub:_INBOX.>",
)
CHANGES = ("pub:$JS.API.STREAM.CREATE.JOBS", "pub:$JS.API.STREAM.UPDATE.JOBS", "pub:$JS.API.CONSUMER.CREATE.JOBS.x")
CREATED = "pub:job:created"
OUTCOMES = ("pub:job:finished", "pub:job:cancelled")
NEXT_CREATED = "pub:$JS.API.CONSUMER.MSG.NEXT.JOBS.job-created-group"
NEXT_OUTCOMES = tuple(f"pub:$JS.API.CONSUMER.MSG.NEXT.JOBS.job-{kind}-group" for kind in ("finished", "cancelled"))
ACK_CREATED = ("pub:$JS.ACK.JOBS.job-created-group.1.1.1.1.1", "pub:$JS.ACK.hub.hash.JOBS.job-created-group.1.1.1.1.1")
ACK_OUTCOMES = tuple(wish.replace("created", "finished") for wish in ACK_CREATED)
INBOX_OF = {user: f"sub:_INBOX_{user}.x" for user in ("api", "job", "setup", "another")}
OWN_INBOX = "sub:_INBOX_{me}.x"


@pytest.mark.parametrize(
    ("service", "variable", "refused", "allowed"),
    [
        (
            "job-server",
            "HASTY_NATS_URL_FILE",
            (*CHANGES, CREATED, *NEXT_OUTCOMES, *ACK_OUTCOMES, INBOX_OF["api"], INBOX_OF["another"]),
            (NEXT_CREATED, *ACK_CREATED, OWN_INBOX, "pub:$JS.API.STREAM.INFO.JOBS"),
        ),
        (
            "api-server",
            "HASTY_NATS_URL_FILE",
            (*CHANGES, *OUTCOMES, NEXT_CREATED, *ACK_CREATED, INBOX_OF["job"], INBOX_OF["another"]),
            (*NEXT_OUTCOMES, *ACK_OUTCOMES, OWN_INBOX, "pub:$JS.API.STREAM.INFO.JOBS"),
        ),
        (
            "api-server",
            "HASTY_NATS_SETUP_URL_FILE",
            (CREATED, *OUTCOMES, NEXT_CREATED, *NEXT_OUTCOMES, *ACK_CREATED, INBOX_OF["api"], INBOX_OF["another"]),
            (OWN_INBOX, "pub:$JS.API.STREAM.INFO.JOBS", "pub:$JS.API.INFO"),
        ),
    ],
    ids=["job", "api", "setup"],
)
async def test_a_nats_user_can_do_its_own_part_only(
    project: Project, service: str, variable: str, refused: tuple[str, ...], allowed: tuple[str, ...]
) -> None:
    """The broker refuses everything that the user is not there for."""
    wishes = (*EVERYBODY_REFUSED, *refused, *allowed)

    answered = await project.ask_inside(service, "nats_rights.py", variable, *wishes)

    assert answered == [*EVERYBODY_REFUSED, *refused]


async def test_the_broker_lets_nobody_in_without_a_password(project: Project) -> None:
    """An attempt from where the broker can be reached."""
    container = (await project.containers("job-server"))[0]
    script = b"""
import socket
with socket.create_connection(("nats", 4222), 5) as server:
    server.recv(4096)
    server.sendall(b'CONNECT {"verbose":true}\\r\\nPING\\r\\n')
    print(server.recv(4096).decode())
"""
    assert "Authorization Violation" in await command("docker", "exec", "-i", container, "python", "-", stdin=script)


async def addresses_of(project: Project, service: str, port: int) -> list[str]:
    """A service by its name and by every address it has."""
    (one,) = await inspect((await project.containers(service))[0])
    networks = one["NetworkSettings"]["Networks"].values()
    return [f"{service}:{port}", *(f"{network['IPAddress']}:{port}" for network in networks)]


async def test_a_job_server_has_no_way_to_the_api_servers_database(project: Project) -> None:
    """Neither by name nor by address; its own database and the broker it does reach."""
    theirs = await addresses_of(project, "api-mongo", 27017)
    own = await addresses_of(project, "job-mongo", 27017) + await addresses_of(project, "nats", 4222)

    assert await project.ask_inside("job-server", "connects.py", *theirs, *own) == own


async def test_an_api_server_has_no_way_to_the_job_servers_database(project: Project) -> None:
    """The same the other way round."""
    theirs = await addresses_of(project, "job-mongo", 27017)
    own = await addresses_of(project, "api-mongo", 27017) + await addresses_of(project, "nats", 4222)

    assert await project.ask_inside("api-server", "connects.py", *theirs, *own) == own


async def test_nginx_reaches_neither_broker_nor_database_nor_job_server(project: Project) -> None:
    """Only the api-server answers it."""
    (nginx,) = await project.containers("nginx")
    closed = [
        *await addresses_of(project, "nats", 4222),
        *await addresses_of(project, "api-mongo", 27017),
        *await addresses_of(project, "job-mongo", 27017),
        *await addresses_of(project, "job-server", 9091),
    ]
    # Each address on its own: curl ends with 6 (no such name), 7 or 28 (no way there) and with anything else when
    # something was reached.
    text = " ".join(
        f"curl -s -o /dev/null --max-time 1 http://{address}/healthz; echo {address} $?;" for address in closed
    )
    lines = (await command("docker", "exec", nginx, "sh", "-c", text)).splitlines()
    assert [line for line in lines if line.split()[1] not in {"6", "7", "28"}] == []
    assert len(lines) == len(closed)

    api = "curl -s -o /dev/null --max-time 2 http://api-server:9090/healthz; echo $?"
    assert (await command("docker", "exec", nginx, "sh", "-c", api)).strip() == "0"
