"""Passwords are replaced while everything runs."""

from tests.compose.load import Load, exactly_once
from tests.compose.project import Project, attempt, command, inspect
from tests.eventually import eventually


async def secrets(project: Project) -> dict[str, str]:
    """Every address and password, by the container's service and the file's name."""
    found = {}
    for service in ("api-server", "job-server", "set-up", "api-mongo", "job-mongo"):
        container = (await project.containers(service))[0]
        read = "cd /run/credentials && for file in *; do echo $file $(cat $file); done"
        for line in (await command("docker", "exec", container, "sh", "-c", read)).splitlines():
            name, _, text = line.partition(" ")
            found[f"{service}/{name}"] = text
    return found


async def test_the_brokers_passwords_are_rotated_under_load(project: Project) -> None:
    """The broker lets in new users only, no request fails, and no job is lost."""
    before = await secrets(project)
    async with Load.steady(project.url) as load:
        await load.flows()
        await project.script("containers/credentials/rotate", "nats")
        await project.healthy()
        await load.flows()
    after = await secrets(project)
    assert {name for name in before if before[name] != after[name]} == {
        "api-server/nats_url",
        "set-up/nats_url",
        "job-server/nats_url",
    }
    assert load.failures == []
    await exactly_once(project, load)


async def test_broker_with_rotated_passwords_restarts_after_a_crash(project: Project) -> None:
    """A signal sent by the engine would make it a container that was stopped by hand."""
    await project.script("containers/credentials/rotate", "nats")
    (broker,) = await project.containers("nats")
    before = (await inspect(broker))[0]["RestartCount"]
    await attempt("docker", "exec", broker, "sh", "-c", "kill -9 -1")

    async def restarted() -> bool:
        return bool((await inspect(broker))[0]["RestartCount"] > before)

    await eventually(restarted, within_s=30)
    await project.healthy()


async def test_the_databases_passwords_are_rotated_under_load(project: Project) -> None:
    """Both databases let in new users only, no request fails, no job is lost; starting again half-way does no harm."""
    before = await secrets(project)
    async with Load.steady(project.url) as load:
        await load.flows()
        # As if the script had been stopped after its first step.
        await project.compose("run", "--rm", "--no-deps", "credentials", "rotate", "api-mongo")
        await project.script("containers/credentials/rotate", "api-mongo", "job-mongo")
        await project.healthy()
        await load.flows()
    after = await secrets(project)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {
        *("api-server/mongo_url", "job-server/mongo_url"),
        *("api-mongo/username", "job-mongo/username", "api-mongo/password", "job-mongo/password"),
    }
    assert after.keys() == before.keys(), "an old password was left behind"
    assert load.failures == []
    await exactly_once(project, load)
