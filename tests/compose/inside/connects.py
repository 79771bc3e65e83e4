# ruff: noqa: T201 - its answer is what it prints
"""Run inside a service's container: to which of the given host:port addresses a connection can be made."""

import json
import socket
import sys

reached = []
for address in sys.argv[1:]:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=2).close()
    except OSError:
        continue
    reached.append(address)
print(json.dumps(reached))
