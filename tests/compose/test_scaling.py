"""Containers come and go under load, and no caller notices."""

from tests.compose.load import Load, exactly_once
from tests.compose.project import Project, command, inspect
from tests.eventually import eventually


async def scale(project: Project, service: str, count: int) -> None:
    """`docker compose up --scale`; returns when that many are healthy."""
    options = ("--detach", "--no-deps", "--no-recreate", "--scale", f"{service}={count}")
    await project.compose("up", *options, service)
    assert len(await project.containers(service)) == count
    await project.healthy()


async def answering(project: Project) -> set[str]:
    """The api-servers to which nginx has passed a request in the last two seconds, by their addresses."""
    (nginx,) = await project.containers("nginx")
    lines = (await command("docker", "logs", "--since", "2s", nginx)).splitlines()
    return {line.partition('"upstream":"')[2].partition('"')[0] for line in lines if '"upstream":"1' in line}


async def addresses(project: Project) -> set[str]:
    """Where nginx must find the api-servers."""
    edge = f"{project.name}_edge"
    servers = await inspect(*await project.containers("api-server"))
    return {f"{one['NetworkSettings']['Networks'][edge]['IPAddress']}:9090" for one in servers}


async def test_job_servers_come_and_go_without_a_failed_request(project: Project) -> None:
    """Three, one, four, and three again."""
    async with Load.steady(project.url) as load:
        await load.flows()
        for count in (1, 4, 3):
            await scale(project, "job-server", count)
            await load.flows()
    assert load.failures == []
    await exactly_once(project, load)


async def test_nginx_follows_the_api_servers_without_a_failed_request(project: Project) -> None:
    """Two, one, three, and two again: each new one is given requests, none of those that went."""
    async with Load.steady(project.url) as load:
        await load.flows()
        for count in (1, 3, 2):
            await scale(project, "api-server", count)
            expected = await addresses(project)

            async def follows(expected: set[str] = expected) -> bool:
                answered = await answering(project)
                assert answered == expected, (answered, expected)
                return True

            await eventually(follows, within_s=20, every_s=0.5)
    assert load.failures == []
    await exactly_once(project, load)


async def test_a_rolling_update_fails_no_request(project: Project) -> None:
    """Both services are built and replaced, container by container, by the one command that is documented for it."""
    before = {one for service in ("api-server", "job-server") for one in await project.containers(service)}
    async with Load.steady(project.url) as load:
        await load.flows()
        said = await project.script("containers/rolling-update")
        await load.flows()
    assert "api-server: 2 replaced" in said
    assert "job-server: 3 replaced" in said
    after = {one for service in ("api-server", "job-server") for one in await project.containers(service)}
    assert len(after) == 5
    assert not after & before
    assert load.failures == []
    await exactly_once(project, load)

    # They are what `docker compose up` would make as well.
    await project.compose("up", "--detach", "--scale", "api-server=2", "--scale", "job-server=3")
    still = {one for service in ("api-server", "job-server") for one in await project.containers(service)}
    assert still == after
