"""Bad weather on the links: to the broker, to the databases, and to the callers."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from tests.faults.ground import Ground, Hit, Kind, NotReached, last, until
from tests.faults.kinds.processes import WATCHDOG
from tests.faults.wires import Weather

if TYPE_CHECKING:
    from tests.faults.wires import Wire

_BROKER: Final = ("nats",)
_DATABASES: Final = ("api-mongo", "job-mongo")
_CALLERS: Final = ("callers",)


async def _storm(weathers: tuple[Weather, ...], targets: tuple[str, ...], ground: Ground, hit: Hit) -> None:
    """Hold a weather on one link or on all links of its sort; when it ends, the connections go on or break."""
    weather = hit.chance.choice(weathers)
    wires = _chosen(targets, ground, hit)
    _allow_leaving(wires, ground)
    for wire in wires:
        wire.delay_s = hit.chance.uniform(0.02, 0.3)
    hit.begins(_names(wires), weather.value)
    async with ground.weather(wires, weather):
        await last(hit, 0.8, 2.5)
    if weather is not Weather.SLOW and hit.chance.random() < 0.5:
        for wire in wires:
            wire.break_all()


async def _lose_answers(targets: tuple[str, ...], ground: Ground, hit: Hit) -> None:
    """Let what was asked arrive and break the connection when the answer comes."""
    wires = _chosen(targets, ground, hit)
    before = sum(wire.lost_answers for wire in wires)
    wanted = hit.chance.randint(1, 8)
    hit.begins(_names(wires), f"{wanted} answers")
    async with ground.weather(wires, Weather.LOSE_ANSWER):
        try:
            await until(lambda: sum(wire.lost_answers for wire in wires) - before >= wanted, within_s=4)
        except TimeoutError:
            if sum(wire.lost_answers for wire in wires) == before:
                raise NotReached("no answer came by") from None


def _chosen(targets: tuple[str, ...], ground: Ground, hit: Hit) -> list[Wire]:
    if targets == _CALLERS:
        return [ground.caller]
    wires = ground.wires.to(hit.chance.choice(targets))
    return wires if hit.chance.random() < 0.25 else [hit.chance.choice(wires)]


def _allow_leaving(wires: list[Wire], ground: Ground) -> None:
    """A service may take a broken broker connection for one beyond healing."""
    for wire in wires:
        if wire.target == "nats" and wire.child in ground.stack.children:
            ground.allow(ground.stack.children[wire.child], WATCHDOG)


def _names(wires: list[Wire]) -> str:
    return ", ".join(f"{wire.child} to {wire.target}" for wire in wires)


def _kinds() -> list[Kind]:
    made: list[Kind] = []
    for where, targets in (("broker", _BROKER), ("database", _DATABASES)):
        touches = frozenset({f"links to {where}"})
        for name, weathers in (
            ("cut", (Weather.CUT,)),
            ("black hole", (Weather.BLACK_HOLE,)),
            ("one way", (Weather.DEAF, Weather.DUMB)),
            ("slow", (Weather.SLOW,)),
        ):
            what = f"a link to the {where}: {name}"
            made.append(Kind(f"{where} link {name}", what, touches, partial(_storm, weathers, targets)))
        what = f"a link to the {where}: the answer alone is lost"
        made.append(Kind(f"{where} link answer lost", what, touches, partial(_lose_answers, targets)))
    callers = frozenset({"links to callers"})
    made.append(
        Kind("caller link cut", "the callers' connections: cut", callers, partial(_storm, (Weather.CUT,), _CALLERS))
    )
    what = "the callers' connections: the answer alone is lost"
    made.append(Kind("caller link answer lost", what, callers, partial(_lose_answers, _CALLERS)))
    return made


KINDS: Final = tuple(_kinds())
