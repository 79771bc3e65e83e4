"""Many of each: requests and jobs are shared, and the five minutes hold across all of them."""

import asyncio
import json
from urllib.parse import urlsplit

import httpx
import pytest

from hasty.server.local_stack import Stack
from tests.e2e.client import TOO_SOON, Hasty, new_object_id
from tests.e2e.stacks import metrics, services

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.own_stack
async def test_three_job_servers_share_sixty_jobs(hasty: Hasty, shared_stack: Stack, ports: httpx.AsyncClient) -> None:
    """Every one of them works, and every job is run once."""
    workers = services(shared_stack, "job-server")
    before = await metrics(ports, workers, "hasty_jobs_ended_total")

    job_ids = await hasty.create_many(60)
    await hasty.finished(job_ids)

    after = await metrics(ports, workers, "hasty_jobs_ended_total")
    shares = [now - then for now, then in zip(after, before, strict=True)]
    assert len(shares) == 3
    assert sum(shares) >= 60
    assert min(shares) >= 1, shares


@pytest.mark.own_stack
async def test_two_api_servers_share_the_requests(hasty: Hasty, shared_stack: Stack, ports: httpx.AsyncClient) -> None:
    """Nginx hands requests to both, and both know every job."""
    api_servers = services(shared_stack, "api-server")
    before = await metrics(ports, api_servers, "hasty_jobs_accepted_total")

    job_ids = await hasty.create_many(40)

    after = await metrics(ports, api_servers, "hasty_jobs_accepted_total")
    shares = [now - then for now, then in zip(after, before, strict=True)]
    assert len(shares) == 2
    assert sum(shares) == 40
    assert min(shares) >= 1, shares
    for _ in range(2):
        assert [job["job_id"] for job in await asyncio.gather(*map(hasty.job, job_ids))] == job_ids


async def test_a_thousand_posts_of_one_object_at_once_make_one_job(hasty: Hasty) -> None:
    """One 201; 999 refusals that all name the one job."""
    address = urlsplit(hasty.url)
    body = json.dumps({"object_id": new_object_id()}).encode()
    request = b"POST / HTTP/1.1\r\nHost: hasty\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    connected = asyncio.Barrier(1_000)

    async def post() -> httpx.Response:
        reader, writer = await asyncio.open_connection(address.hostname, address.port or 80)
        await connected.wait()
        writer.write(request)
        head, _, content = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        await writer.wait_closed()
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        return httpx.Response(int(first.split()[1]), headers=headers, content=content)

    async with asyncio.timeout(60):
        answers = await asyncio.gather(*(post() for _ in range(1_000)))

    created = [answer for answer in answers if answer.status_code == 201]
    refused = [answer for answer in answers if answer.status_code == 400]
    assert (len(created), len(refused)) == (1, 999), {answer.status_code for answer in answers}
    assert {answer.content for answer in refused} == {TOO_SOON}
    assert {answer.headers["location"] for answer in answers} == {f"/{created[0].json()['message']['job_id']}"}
    assert all(1 <= int(answer.headers["retry-after"]) <= 300 for answer in refused)


async def test_races_for_many_objects_have_one_winner_each(hasty: Hasty) -> None:
    """Six posts at once for each of forty objects, spread over all api-servers."""
    object_ids = [new_object_id() for _ in range(40)] * 6

    answers = await asyncio.gather(*map(hasty.ask, sorted(object_ids)))

    jobs: dict[str, set[str]] = {}
    for object_id, answer in zip(sorted(object_ids), answers, strict=True):
        jobs.setdefault(object_id, set()).add(answer.headers["location"])
    assert [answer.status_code for answer in answers].count(201) == 40
    assert {len(its) for its in jobs.values()} == {1}
