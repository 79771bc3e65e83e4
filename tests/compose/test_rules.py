"""The rules every container keeps, as the engine sees them and not as the file says."""

import json
import re
from collections import Counter
from typing import Any

import pytest

from tests.compose.project import SERVICES, Project, command, inspect, service_of

NETWORKS = {
    "nginx": {"edge"},
    "api-server": {"edge", "api-messages", "api-data"},
    "job-server": {"job-messages", "job-data"},
    "set-up": {"setup-messages"},
    "nats": {"api-messages", "job-messages", "setup-messages"},
    "api-mongo": {"api-data"},
    "api-mongo-users": {"api-data"},
    "job-mongo": {"job-data"},
    "job-mongo-users": {"job-data"},
    "credentials": {"none"},
}
VOLUMES = {
    "nginx": set(),
    "api-server": {"credentials-api-server"},
    "job-server": {"credentials-job-server"},
    "set-up": {"credentials-set-up"},
    "nats": {"credentials-nats", "nats-data"},
    "api-mongo": {"credentials-api-mongo", "api-mongo-data"},
    "api-mongo-users": {"credentials-api-mongo-users"},
    "job-mongo": {"credentials-job-mongo", "job-mongo-data"},
    "job-mongo-users": {"credentials-job-mongo-users"},
    "credentials": {
        "credentials",
        "credentials-api-server",
        "credentials-job-server",
        "credentials-set-up",
        "credentials-nats",
        "credentials-api-mongo",
        "credentials-api-mongo-users",
        "credentials-job-mongo",
        "credentials-job-mongo-users",
    },
}
SECRET_FILES = {
    "api-server": ("nats_url", "mongo_url"),
    "job-server": ("nats_url", "mongo_url"),
    "set-up": ("nats_url",),
    "api-mongo": ("password",),
    "job-mongo": ("password",),
}


@pytest.fixture
async def all_containers(project: Project) -> list[dict[str, Any]]:
    """Every container, the one that made the credentials included."""
    return await project.everything()


@pytest.fixture
async def running(all_containers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The containers that are there to stay."""
    return [one for one in all_containers if service_of(one) in SERVICES]


async def test_every_service_runs_as_often_as_asked(running: list[dict[str, Any]]) -> None:
    """Two api-servers, three job-servers, one of everything else."""
    assert Counter(map(service_of, running)) == {**dict.fromkeys(SERVICES, 1), "api-server": 2, "job-server": 3}


async def test_nothing_runs_as_root_or_with_a_capability(all_containers: list[dict[str, Any]]) -> None:
    """A numeric user that is not 0, no capability, and none to be gained."""
    for one in all_containers:
        host = one["HostConfig"]
        assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", one["Config"]["User"]), one["Name"]
        assert (host["CapDrop"], host["CapAdd"], host["Privileged"]) == (["ALL"], None, False), one["Name"]
        assert host["SecurityOpt"] == ["no-new-privileges:true"], one["Name"]


async def test_processes_have_no_capability_and_no_writable_root(running: list[dict[str, Any]]) -> None:
    """Asked inside: user, effective capabilities, and an attempt on the root file system."""
    for one in running:
        script = "id -u; grep -h ^CapEff /proc/1/status /proc/self/status; touch /x /etc/x 2>/dev/null || echo refused"
        text = await command("docker", "exec", one["Id"], "sh", "-c", script)
        uid, *rest = text.split("\n")
        assert int(uid) > 0, one["Name"]
        assert rest == ["CapEff:\t0000000000000000"] * 2 + ["refused", ""], (one["Name"], rest)


async def test_every_root_file_system_is_read_only(all_containers: list[dict[str, Any]]) -> None:
    """What must be written to is a volume or a bounded tmpfs."""
    for one in all_containers:
        assert one["HostConfig"]["ReadonlyRootfs"], one["Name"]
        for options in one["HostConfig"].get("Tmpfs", {}).values():
            assert {"noexec", "nosuid", "nodev"} <= set(options.split(",")), one["Name"]
            assert "size=" in options, one["Name"]


async def test_memory_processes_and_logs_are_bounded(all_containers: list[dict[str, Any]]) -> None:
    """No container can take the machine's memory, processes or disk."""
    for one in all_containers:
        host = one["HostConfig"]
        assert 0 < host["Memory"] <= 1 << 30, one["Name"]
        assert 0 < host["PidsLimit"] <= 2048, one["Name"]
        assert {"max-size", "max-file"} <= host["LogConfig"]["Config"].keys(), one["Name"]


async def test_every_container_is_looked_after(running: list[dict[str, Any]]) -> None:
    """An init that reaps, a health check, a restart after a crash, and time to stop in."""
    for one in running:
        assert one["HostConfig"]["Init"], one["Name"]
        assert one["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped", one["Name"]
        assert one["Config"]["Healthcheck"]["Test"], one["Name"]
        assert one["Config"]["StopTimeout"] > 10, one["Name"]


async def test_images_are_pinned(all_containers: list[dict[str, Any]]) -> None:
    """A minor version, never 'latest'; ours carry the tag of this run."""
    for one in all_containers:
        name, _, tag = one["Config"]["Image"].partition(":")
        assert re.match(r"\d+\.\d+", tag) or (name.startswith("hasty-") and tag.startswith("test-")), one["Config"][
            "Image"
        ]


async def test_each_service_is_in_its_networks_and_no_other(
    project: Project, all_containers: list[dict[str, Any]]
) -> None:
    """All networks but the edge lead nowhere else."""
    for one in all_containers:
        networks = {name.removeprefix(f"{project.name}_") for name in one["NetworkSettings"]["Networks"]}
        assert networks == NETWORKS[service_of(one)], one["Name"]
    names = sorted({name for networks in NETWORKS.values() for name in networks} - {"none"})
    inner = {name: network["Internal"] for name in names for network in await inspect(f"{project.name}_{name}")}
    assert inner == {name: name != "edge" for name in names}


async def test_only_nginx_publishes_a_port(project: Project, running: list[dict[str, Any]]) -> None:
    """The one way in."""
    published = {
        service_of(one): [binding["HostPort"] for bindings in ports.values() for binding in bindings]
        for one in running
        if (ports := one["HostConfig"]["PortBindings"])
    }
    assert published == {"nginx": [str(project.port)]}


async def test_each_service_sees_its_own_volumes_only(project: Project, all_containers: list[dict[str, Any]]) -> None:
    """Its data and its credentials, the latter not to be written; no volume without a name is left behind by `down`."""
    for one in all_containers:
        volumes = {mount["Name"]: mount["RW"] for mount in one["Mounts"] if mount["Type"] == "volume"}
        names = {name.removeprefix(f"{project.name}_") for name in volumes}
        assert names == VOLUMES[service_of(one)], one["Name"]
        if service_of(one) != "credentials":
            assert not any(writable for name, writable in volumes.items() if "_credentials" in name), one["Name"]
        assert not any(mount["RW"] for mount in one["Mounts"] if mount["Type"] == "bind"), one["Name"]


async def test_no_password_can_be_inspected(project: Project, all_containers: list[dict[str, Any]]) -> None:
    """Neither the environment nor anything else that the engine tells holds one."""
    passwords = set()
    for service, files in SECRET_FILES.items():
        container = (await project.containers(service))[0]
        for file in files:
            text = await command("docker", "exec", container, "cat", f"/run/credentials/{file}")
            match = re.search(r":([^:@/]+)@", text)
            passwords.add(match[1] if match else text)
    assert len(passwords) == 7
    assert all(re.fullmatch(r"[\w-]{43}", password) for password in passwords), "a password is not 32 random bytes"
    told = json.dumps(all_containers)
    assert not [password for password in passwords if password in told]


async def test_the_images_hold_no_installer_and_no_foreign_package(project: Project) -> None:
    """A service's image has its own packages, compiled, and nothing to install more with."""
    folders = "ls /app /app/*/__pycache__ /app/hasty /app/hasty/server /opt/hasty/bin"
    for service, own, other in (("api-server", "api_server", "job_server"), ("job-server", "job_server", "api_server")):
        container = (await project.containers(service))[0]
        listing = await command("docker", "exec", container, "sh", "-c", folders)
        assert f"/app/{own}/__pycache__" in listing
        assert other not in listing
        assert "tests" not in listing
        assert "local_stack" not in listing
        assert "typer" not in listing, "the command has no place in an image"
        found = await command("docker", "exec", container, "sh", "-c", "ls /opt/hasty/bin | grep -c pip || true")
        assert found.strip() == "0", service
