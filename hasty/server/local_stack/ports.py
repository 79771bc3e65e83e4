"""Ports on the loopback interface that no other process is given while the stack runs."""

import errno
import socket
import sys

from hasty.server.local_stack.errors import PortInUseError

HOST = "127.0.0.1"
# Linux lets a child listen on a port that is bound, without listening, by a socket that allows it; a bound port is
# never given to anyone who asks for any port. Elsewhere the port is only looked up, and may be taken in between.
CAN_HOLD = sys.platform == "linux"


class Port:
    """One port; chosen by the system when `fixed` is 0."""

    def __init__(self, fixed: int = 0) -> None:
        self._fixed = fixed
        self._held: socket.socket | None = None
        self.number = fixed
        self.renew()

    @property
    def address(self) -> str:
        """`127.0.0.1:<number>`."""
        return f"{HOST}:{self.number}"

    @property
    def taken(self) -> bool:
        """Whether a process listens on it."""
        try:
            _bound(self.number).close()
        except OSError:
            return True
        return False

    def renew(self) -> None:
        """Let the system choose again; PortInUseError when the port is fixed and in use."""
        self.close()
        try:
            held = _bound(self._fixed)
        except OSError as error:
            raise PortInUseError(_refusal(self._fixed, error)) from error
        self.number = held.getsockname()[1]
        if CAN_HOLD:
            self._held = held
        else:
            held.close()

    def close(self) -> None:
        """Give it back."""
        if self._held is not None:
            self._held.close()
            self._held = None


def _bound(number: int) -> socket.socket:
    held = socket.socket()
    try:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind((HOST, number))
    except OSError:
        held.close()
        raise
    return held


def _refusal(number: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {number} is in use: end what uses it, or choose another with HASTY_HTTP_PORT"
    return f"port {number} cannot be used ({error.strerror}): choose another with HASTY_HTTP_PORT"
