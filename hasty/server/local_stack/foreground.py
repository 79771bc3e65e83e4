"""A stack in the foreground of a terminal: up until a signal ends it."""

import asyncio
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from hasty.server.local_stack.checks import check_settings
from hasty.server.local_stack.config import StackConfig
from hasty.server.local_stack.errors import StackError
from hasty.server.local_stack.settings import SettingsError, config_from
from hasty.server.local_stack.stack import Stack
from hasty.server.local_stack.view import View, watch
from hasty.server.runtime import output

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
ENDED_IN_ORDER = 0
ENDED_AT_ONCE = 130
FAILED = 1
BAD_SETTINGS = 2


def main(environment: Mapping[str, str], folder: Path, api_servers: int, job_servers: int) -> int:
    """Run the stack that HASTY_* of `environment` describe, until a signal; the exit code."""
    output.discard_failed_writes()
    try:
        return asyncio.run(run(config_from(environment, folder, api_servers, job_servers), View(Console())))
    except StackError as error:
        sys.stderr.writelines(f"hasty: {line}\n" for line in str(error).splitlines())
        return BAD_SETTINGS if isinstance(error, SettingsError) else FAILED


async def run(config: StackConfig, view: View) -> int:
    """Run the stack until the first signal, which ends it in order; the second ends it at once. The exit code."""
    main = asyncio.current_task()
    signals = 0

    def end() -> None:
        nonlocal signals
        signals += 1
        if signals == 1:
            view.tell("stopping; a second Ctrl-C kills what still runs")
        if main is not None:
            main.cancel()

    for number in SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, end)
    try:
        await check_settings(config, view.tell)
        with view.shown():
            async with Stack.running(config, view.tell) as stack:
                view.show(stack)
                await watch(stack, view)
    except asyncio.CancelledError:
        return ENDED_IN_ORDER if signals == 1 else ENDED_AT_ONCE
