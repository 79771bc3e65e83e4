"""What cannot be reached or done from inside a container, and from the host."""

import json

import pytest

from tests.compose.project import Project, command, inspect
from tests.compose.rights import RIGHTS, permitted

LOGINS = {
    "api": ("api-server", "HASTY_NATS_URL_FILE"),
    "job": ("job-server", "HASTY_NATS_URL_FILE"),
    "setup": ("set-up", "HASTY_NATS_URL_FILE"),
}


@pytest.mark.parametrize("user", RIGHTS)
async def test_a_nats_user_can_do_its_own_part_only(project: Project, user: str) -> None:
    """The broker refuses everything that the user is not there for."""
    rights = RIGHTS[user]
    # What publishes an event would become a dead letter of whoever takes it.
    allowed = [wish for wish in rights.allowed if not wish.startswith(("pub:job:", "pub:kind:", "pub:work."))]

    answered = await project.ask_inside(LOGINS[user][0], "nats_rights.py", LOGINS[user][1], *rights.refused, *allowed)

    assert answered == list(rights.refused)


@pytest.mark.parametrize("user", ["api", "job"])
async def test_no_reply_subject_does_harm(project: Project, user: str) -> None:
    """A service's login cannot make the broker delete, purge or change the stream, or acknowledge the others' work."""
    before = await project.ask_inside("set-up", "nats_topology.py")
    service, variable = LOGINS[user]

    done = await project.ask_inside(service, "nats_attacks.py", variable, "spare", json.dumps(permitted(user)))

    assert done["refused"] == []
    assert done["sent"] > 500
    assert await project.ask_inside("set-up", "nats_topology.py") == before


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


async def addresses_of(project: Project, service: str, port: int, network: str = "") -> list[str]:
    """A service by its name and by every address it has, or by its one address in a network."""
    (one,) = await inspect((await project.containers(service))[0])
    networks = one["NetworkSettings"]["Networks"]
    if network:
        networks = {name: found for name, found in networks.items() if name == f"{project.name}_{network}"}
        assert networks
    return [f"{service}:{port}", *(f"{found['IPAddress']}:{port}" for found in networks.values())]


async def test_a_job_server_has_no_way_to_the_api_servers_database(project: Project) -> None:
    """Neither by name nor by address; its own database and the broker it does reach."""
    theirs = await addresses_of(project, "api-mongo", 27017)
    own = await addresses_of(project, "job-mongo", 27017) + await addresses_of(project, "nats", 4222, "job-messages")

    assert await project.ask_inside("job-server", "connects.py", *theirs, *own) == own


async def test_an_api_server_has_no_way_to_the_job_servers_database(project: Project) -> None:
    """The same the other way round."""
    theirs = await addresses_of(project, "job-mongo", 27017)
    own = await addresses_of(project, "api-mongo", 27017) + await addresses_of(project, "nats", 4222, "api-messages")

    assert await project.ask_inside("api-server", "connects.py", *theirs, *own) == own


async def test_a_job_server_has_no_way_to_an_api_server(project: Project) -> None:
    """Neither to the port behind nginx, which knows no limits, nor to the one of another service on its way."""
    theirs = [
        *await addresses_of(project, "api-server", 9090),
        *await addresses_of(project, "set-up", 9090),
        *await addresses_of(project, "nginx", 8080),
    ]
    own = await addresses_of(project, "nats", 4222, "job-messages")

    assert await project.ask_inside("job-server", "connects.py", *theirs, *own) == own


async def test_set_up_reaches_the_broker_only(project: Project) -> None:
    """It has a login that can change the streams, so nobody reaches it, and it reaches nobody else."""
    theirs = [
        *await addresses_of(project, "api-server", 9090),
        *await addresses_of(project, "job-server", 9091),
        *await addresses_of(project, "api-mongo", 27017),
        *await addresses_of(project, "job-mongo", 27017),
    ]
    own = await addresses_of(project, "nats", 4222, "setup-messages")

    assert await project.ask_inside("set-up", "connects.py", *theirs, *own) == own
    of_set_up = await addresses_of(project, "set-up", 9090)
    assert await project.ask_inside("api-server", "connects.py", *of_set_up) == []


@pytest.mark.parametrize(
    ("service", "variable"), [("api-server", "HASTY_API_MONGO_URL_FILE"), ("job-server", "HASTY_JOB_MONGO_URL_FILE")]
)
async def test_a_databases_login_does_what_its_service_does_only(project: Project, service: str, variable: str) -> None:
    """It reads and writes documents of its own database, and makes indexes; it is no administrator."""
    answer = await project.ask_inside(service, "mongo_rights.py", variable)

    needed = ["ping", "hello", "insert", "find", "aggregate", "update", "index", "remove"]
    assert answer["done"] == needed
    assert len(answer["refused"]) > len(needed)


async def test_no_service_sees_a_login_of_another(project: Project) -> None:
    """Each has the two or one it logs in with; the administrators' are nowhere but at the databases themselves."""
    held = {}
    for service in ("api-server", "job-server", "set-up", "api-mongo", "job-mongo"):
        container = (await project.containers(service))[0]
        script = "cd /run/credentials && for file in *; do [ -r $file ] && echo $file; done; true"
        held[service] = set((await command("docker", "exec", container, "sh", "-c", script)).split())
    assert held == {
        "api-server": {"nats_url", "mongo_url"},
        "job-server": {"nats_url", "mongo_url"},
        "set-up": {"nats_url"},
        "api-mongo": {"username", "password"},
        "job-mongo": {"username", "password"},
    }
    for service in ("api-server", "job-server"):
        container = (await project.containers(service))[0]
        for url in ("nats_url", "mongo_url"):
            text = await command("docker", "exec", container, "cat", f"/run/credentials/{url}")
            assert "root" not in text
            assert "setup" not in text


async def test_nginx_reaches_only_the_api_servers(project: Project) -> None:
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
