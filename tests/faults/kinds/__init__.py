"""Every kind of fault, by name; `ALL` is the matrix of docs/faults.md, in its order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.faults.kinds import broker, clocks, crashes, databases, messages, network, operations, processes

if TYPE_CHECKING:
    from tests.faults.ground import Kind

ALL: Final[dict[str, Kind]] = {
    kind.name: kind
    for module in (crashes, processes, network, broker, databases, messages, clocks, operations)
    for kind in module.KINDS
}
