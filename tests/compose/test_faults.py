"""Under steady load, each in turn: what breaks costs no job, and no job is done twice."""

import asyncio

import pytest

from tests.compose.load import Load, exactly_once
from tests.compose.project import SERVICES, Project, attempt, command, inspect
from tests.eventually import eventually

# While these are away, the others answer every caller.
UNNOTICED = {"job-server", "job-mongo", "nats"}


@pytest.mark.parametrize(
    ("service", "count"),
    [
        ("job-server", 1),
        ("job-server", 3),
        ("api-server", 1),
        ("nats", 1),
        ("api-mongo", 1),
        ("job-mongo", 1),
        ("nginx", 1),
    ],
)
async def test_a_kill_loses_no_job(project: Project, service: str, count: int) -> None:
    """`docker kill`, two seconds later `docker start`."""
    victims = (await project.containers(service))[:count]
    async with Load.steady(project.url) as load:
        await load.flows()
        await command("docker", "kill", *victims)
        await load.goes_on(for_s=2)
        await command("docker", "start", *victims)
        await project.healthy()
        await load.flows()
    if service in UNNOTICED:
        assert load.failures == []
    await exactly_once(project, load)


async def test_a_crash_of_everything_at_once_heals_by_itself(project: Project) -> None:
    """Every process of every container is killed, as by a power cut; the restart policy brings all of them back."""
    ids = [one for service in SERVICES for one in await project.containers(service)]
    before = {one["Id"]: one["RestartCount"] for one in await inspect(*ids)}
    async with Load.steady(project.url) as load:
        await load.flows()
        # The killed shell is inside as well: how its command ends says nothing.
        await asyncio.gather(*(attempt("docker", "exec", one, "sh", "-c", "kill -9 -1") for one in ids))

        async def all_restarted() -> bool:
            return all(one["RestartCount"] > before[one["Id"]] for one in await inspect(*ids))

        await eventually(all_restarted, within_s=30)
        await project.healthy(within_s=90)
        await load.flows()
    await exactly_once(project, load, within_s=90)


async def test_job_server_frozen_beyond_the_ack_wait_does_no_job_twice(project: Project) -> None:
    """Others take its jobs over; when it thaws, it discards its results and uses the recorded ones."""
    victim = (await project.containers("job-server"))[0]
    async with Load.steady(project.url) as load:
        await load.flows()
        await command("docker", "pause", victim)
        try:
            taken_by_all = dict(load.accepted)

            async def others_have_finished_them() -> bool:
                books = await project.ask_inside("api-server", "api_jobs.py", load.prefix)
                return not {job["_id"] for job in books["jobs"] if job["status"] == "processing"} & set(
                    taken_by_all.values()
                )

            await eventually(others_have_finished_them, within_s=60, every_s=0.5)
        finally:
            await command("docker", "unpause", victim)
        await project.healthy()
        await load.flows()
    assert load.failures == []
    await exactly_once(project, load)


async def test_a_job_server_cut_off_from_the_broker_costs_no_job(project: Project) -> None:
    """Nothing is closed, nothing answers: only silence tells."""
    victim = (await project.containers("job-server"))[0]
    network = f"{project.name}_job-messages"
    async with Load.steady(project.url) as load:
        await load.flows()
        await command("docker", "network", "disconnect", network, victim)
        try:
            await load.goes_on(for_s=12)
        finally:
            await command("docker", "network", "connect", "--alias", "job-server", network, victim)
        await project.healthy()
        await load.flows()
    assert load.failures == []
    await exactly_once(project, load)


async def test_an_api_server_cut_off_from_its_database_costs_no_job(project: Project) -> None:
    """Its callers are told to come back later; what was accepted stays accepted."""
    victim = (await project.containers("api-server"))[0]
    network = f"{project.name}_api-data"
    async with Load.steady(project.url) as load:
        await load.flows()
        await command("docker", "network", "disconnect", network, victim)
        try:
            await load.goes_on(for_s=12)
        finally:
            await command("docker", "network", "connect", "--alias", "api-server", network, victim)
        await project.healthy()
        await load.flows()
    assert {failure.split(": ")[1].split()[0] for failure in load.failures} <= {"503"}, load.failures
    await exactly_once(project, load)


async def test_a_broker_that_has_lost_its_disk_costs_no_job(project: Project) -> None:
    """MongoDB is the truth: what the broker has forgotten is published again."""
    async with Load.steady(project.url) as load:
        await load.flows()
        await project.compose("rm", "--stop", "--force", "nats")
        await command("docker", "volume", "rm", f"{project.name}_nats-data")
        await project.compose("up", "--detach", "--no-deps", "--no-recreate", "nats")
        await project.healthy()
        await load.flows()
    assert load.failures == []
    await exactly_once(project, load)
