"""A stack of stand-ins in the foreground: `supervisor.py FOLDER [option of every stand-in]...`."""

import asyncio
import sys
from pathlib import Path

from rich.console import Console

from hasty.server.local_stack import foreground
from hasty.server.local_stack.view import View
from tests.stack.stacks import config, standin

folder, *options = sys.argv[1:]
commands = {"api-server": standin(*options), "job-server": standin(*options)}
environment = {"HASTY_SHUTDOWN_GRACE_S": "30"}
stack = config(Path(folder), commands=commands, environment=environment)
sys.exit(asyncio.run(foreground.run(stack, View(Console()))))
