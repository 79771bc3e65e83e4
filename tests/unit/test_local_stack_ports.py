"""Ports belong to the stack while it runs."""

import socket
import sys

import pytest

from hasty.server.local_stack.errors import PortInUseError
from hasty.server.local_stack.ports import HOST, Port


def listening(number: int = 0) -> socket.socket:
    """Somebody who listens."""
    other = socket.create_server((HOST, number))
    assert other.getsockname()[1] == number or number == 0
    return other


def test_a_fixed_port_of_somebody_else_is_refused_in_one_line() -> None:
    """The line says which port and what to do."""
    with listening() as other:
        number = other.getsockname()[1]
        with pytest.raises(PortInUseError, match=rf"^port {number} is in use: end what uses it, or choose another"):
            Port(number)


def test_a_port_is_taken_once_somebody_listens() -> None:
    """That is how a lost race for a port is recognised; a renewed port is free again."""
    port = Port()
    assert not port.taken
    with listening(port.number):
        assert port.taken
        lost = port.number
        port.renew()
        assert port.number != lost
        assert not port.taken
    port.close()


@pytest.mark.parametrize("taker", [pytest.param(n, id=f"taker-{n}") for n in range(3)])
def test_a_child_listens_on_a_port_that_the_stack_holds(taker: int) -> None:
    """Holding it keeps others away, not the child; that is what keeps a port across restarts."""
    port = Port()
    assert (port._held is not None) == (sys.platform == "linux")  # noqa: SLF001 - what nobody else can see
    for _ in range(taker + 1):
        with listening(port.number), socket.create_connection((HOST, port.number), timeout=5):
            assert port.taken
    port.close()
