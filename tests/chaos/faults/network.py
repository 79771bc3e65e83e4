"""Bad state on the links: to the broker, to the databases, and to the callers."""

from __future__ import annotations

from functools import partial
from typing import Final

from tests.chaos.faults.processes import WATCHDOG
from tests.chaos.proxies import LinkState, Proxy
from tests.chaos.system import FaultKind, Injection, NotReached, System, last, until

_BROKER: Final = ("nats",)
_DATABASES: Final = ("api-mongo", "job-mongo")
_CALLERS: Final = ("callers",)


async def _storm(weathers: tuple[LinkState, ...], targets: tuple[str, ...], system: System, hit: Injection) -> None:
    """Hold a state on one link or on all links of its sort; when it ends, the connections go on or break."""
    state = hit.chance.choice(weathers)
    proxies = _chosen(targets, system, hit)
    _allow_leaving(proxies, system)
    for proxy in proxies:
        proxy.delay_s = hit.chance.uniform(0.02, 0.3)
    hit.begins(_names(proxies), state.value)
    async with system.state(proxies, state):
        await last(hit, 0.8, 2.5)
    if state is not LinkState.SLOW and hit.chance.random() < 0.5:
        for proxy in proxies:
            proxy.break_all()


async def _lose_answers(targets: tuple[str, ...], system: System, hit: Injection) -> None:
    """Let what was asked arrive and break the connection when the answer comes."""
    proxies = _chosen(targets, system, hit)
    before = sum(proxy.lost_answers for proxy in proxies)
    wanted = hit.chance.randint(1, 8)
    hit.begins(_names(proxies), f"{wanted} answers")
    async with system.state(proxies, LinkState.LOSE_ANSWER):
        try:
            await until(lambda: sum(proxy.lost_answers for proxy in proxies) - before >= wanted, within_s=4)
        except TimeoutError:
            if sum(proxy.lost_answers for proxy in proxies) == before:
                raise NotReached("no answer came by") from None


def _chosen(targets: tuple[str, ...], system: System, hit: Injection) -> list[Proxy]:
    if targets == _CALLERS:
        return [system.caller]
    proxies = system.proxies.to(hit.chance.choice(targets))
    return proxies if hit.chance.random() < 0.25 else [hit.chance.choice(proxies)]


def _allow_leaving(proxies: list[Proxy], system: System) -> None:
    """A service may take a broken broker connection for one beyond healing."""
    for proxy in proxies:
        if proxy.target == "nats" and proxy.child in system.stack.children:
            system.allow(system.stack.children[proxy.child], WATCHDOG)


def _names(proxies: list[Proxy]) -> str:
    return ", ".join(f"{proxy.child} to {proxy.target}" for proxy in proxies)


def _kinds() -> list[FaultKind]:
    made: list[FaultKind] = []
    for where, targets in (("broker", _BROKER), ("database", _DATABASES)):
        touches = frozenset({f"links to {where}"})
        for name, weathers in (
            ("cut", (LinkState.CUT,)),
            ("black hole", (LinkState.BLACK_HOLE,)),
            ("one way", (LinkState.DEAF, LinkState.DUMB)),
            ("slow", (LinkState.SLOW,)),
        ):
            what = f"a link to the {where}: {name}"
            made.append(FaultKind(f"{where} link {name}", what, touches, partial(_storm, weathers, targets)))
        what = f"a link to the {where}: the answer alone is lost"
        made.append(FaultKind(f"{where} link answer lost", what, touches, partial(_lose_answers, targets)))
    callers = frozenset({"links to callers"})
    made.append(
        FaultKind(
            "caller link cut", "the callers' connections: cut", callers, partial(_storm, (LinkState.CUT,), _CALLERS)
        )
    )
    what = "the callers' connections: the answer alone is lost"
    made.append(FaultKind("caller link answer lost", what, callers, partial(_lose_answers, _CALLERS)))
    return made


KINDS: Final = tuple(_kinds())
