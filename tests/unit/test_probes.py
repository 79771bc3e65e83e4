"""Probes: honest about what they check, quick whatever happens to it, and no load on it."""

import asyncio
import json
from collections.abc import Awaitable, Callable

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from hasty.server.runtime import probes
from hasty.server.runtime.probes import METRICS_TYPE, Probes


def says(result: str | None) -> Callable[[], Awaitable[str | None]]:
    """A check with this result."""

    async def check() -> str | None:
        return result

    return check


async def hang() -> str | None:
    """A check whose answer never comes."""
    await asyncio.Event().wait()
    return None


async def fail() -> str | None:
    """A check that breaks."""
    raise ConnectionRefusedError(111, "refused\nby 127.0.0.1")


class Counted:
    """A check that counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    async def __call__(self) -> str | None:
        """All is well."""
        self.asked += 1
        await asyncio.sleep(0)
        return None


@pytest.fixture
def get() -> Callable[..., Awaitable[httpx.Response]]:
    """Ask a `Probes` over HTTP, without a server in between."""

    async def ask(asked: Probes, path: str, method: str = "GET") -> httpx.Response:
        transport = httpx.ASGITransport(asked.asgi)
        async with httpx.AsyncClient(transport=transport, base_url="http://probed") as client:
            return await client.request(method, path)

    return ask


async def test_healthz_touches_nothing() -> None:
    """Restarting this process would not heal its database."""
    check = Counted()
    assert await Probes({"database": check}).healthz() == (200, b'{"status":"alive"}')
    assert check.asked == 0


@pytest.mark.parametrize(
    ("database", "broker", "status", "code"),
    [
        (None, None, "ready", 200),
        (None, "not connected", "degraded", 200),
        ("no primary", None, "unready", 503),
        ("no primary", "not connected", "unready", 503),
    ],
)
async def test_readyz_tells_what_is_needed_from_what_is_optional(
    database: str | None, broker: str | None, status: str, code: int
) -> None:
    """And gives every check's result in its own words."""
    asked = Probes({"database": says(database), "broker": says(broker)}, optional=frozenset({"broker"}))
    answered, body = await asked.readyz()
    assert answered == code
    assert json.loads(body) == {"status": status, "checks": {"database": database or "ok", "broker": broker or "ok"}}


async def test_checks_that_hang_or_break_are_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A probe without an answer would say less."""
    monkeypatch.setattr(probes, "CHECK_TIMEOUT_S", 0.05)
    code, body = await Probes({"database": hang, "broker": fail, "consumer": says(None)}).readyz()
    assert code == 503
    assert json.loads(body)["checks"] == {
        "database": "no answer within 0.05 s",
        "broker": "ConnectionRefusedError: [Errno 111] refused by 127.0.0.1",
        "consumer": "ok",
    }


async def test_checks_run_side_by_side() -> None:
    """So that the whole answer is as bounded as each of them."""
    both = asyncio.Barrier(2)

    async def meet() -> str | None:
        await both.wait()
        return None

    assert (await Probes({"database": meet, "broker": meet}).readyz())[0] == 200


async def test_a_crowd_of_probes_is_one_question_a_second() -> None:
    """However many ask, at once or one after the other."""
    clock = [100.0]
    check = Counted()
    asked = Probes({"database": check}, now=lambda: clock[0])
    await asyncio.gather(*(asked.readyz() for _ in range(50)))
    clock[0] += 0.9
    await asked.readyz()
    assert check.asked == 1
    clock[0] += 0.1
    await asked.readyz()
    assert check.asked == 2


async def test_a_prober_that_goes_away_leaves_the_next_one_an_answer() -> None:
    """Nothing stays locked behind it."""
    started = asyncio.Event()
    go_on = asyncio.Event()

    async def slow() -> str | None:
        started.set()
        await go_on.wait()
        return None

    asked = Probes({"database": slow})
    prober = asyncio.create_task(asked.readyz())
    await started.wait()
    prober.cancel()
    with pytest.raises(asyncio.CancelledError):
        await prober
    go_on.set()
    async with asyncio.timeout(10):
        assert (await asked.readyz())[0] == 200


async def test_metrics_count_the_tasks_alive() -> None:
    """A leak of tasks shows as a number."""

    def counted() -> float:
        families = text_string_to_metric_families(Probes({}).metrics().decode())
        return next(family.samples[0].value for family in families if family.name == "hasty_tasks")

    before = counted()
    async with asyncio.TaskGroup() as group:
        sleepers = [group.create_task(hang()) for _ in range(3)]
        assert counted() == before + 3
        for sleeper in sleepers:
            sleeper.cancel()


@pytest.mark.parametrize(
    ("path", "code", "kind"),
    [
        ("/healthz", 200, "application/json"),
        ("/readyz", 503, "application/json"),
        ("/metrics", 200, METRICS_TYPE),
        ("/", 404, "application/json"),
        ("/healthz/", 404, "application/json"),
    ],
)
async def test_answers_over_http(
    get: Callable[..., Awaitable[httpx.Response]], path: str, code: int, kind: str
) -> None:
    """Each with its type, and to HEAD without a body."""
    asked = Probes({"database": says("gone")})
    answer = await get(asked, path)
    assert (answer.status_code, answer.headers["content-type"]) == (code, kind)
    assert len(answer.content) == int(answer.headers["content-length"]) > 0
    bare = await get(asked, path, "HEAD")
    assert (bare.status_code, bare.content) == (code, b"")


async def test_errors_have_the_shape_of_all_errors(get: Callable[..., Awaitable[httpx.Response]]) -> None:
    """A message, as everywhere in Hasty."""
    assert (await get(Probes({}), "/nothing")).json() == {"message": "not found"}
    refused = await get(Probes({}), "/healthz", "POST")
    assert (refused.status_code, refused.json()) == (405, {"message": "method not allowed"})
    assert refused.headers["allow"] == "GET, HEAD"


async def test_a_server_may_ask_for_start_and_end() -> None:
    """The lifespan protocol, for a server that insists on it."""
    asked = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    answered: list[object] = []

    async def receive() -> dict[str, object]:
        return dict(asked.pop(0))

    async def send(message: object) -> None:
        answered.append(message)

    await Probes({}).asgi({"type": "lifespan"}, receive, send)
    assert answered == [{"type": "lifespan.startup.complete"}, {"type": "lifespan.shutdown.complete"}]
