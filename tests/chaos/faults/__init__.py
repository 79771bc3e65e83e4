"""Every kind of fault, by name; `ALL` is the matrix of docs/faults.md, in its order."""

from __future__ import annotations

from typing import Final

from tests.chaos.faults import broker, clocks, crashes, databases, handlers, messages, network, operations, processes
from tests.chaos.system import FaultKind

ALL: Final[dict[str, FaultKind]] = {
    kind.name: kind
    for module in (crashes, processes, network, broker, databases, messages, clocks, operations, handlers)
    for kind in module.KINDS
}
