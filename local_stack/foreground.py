"""A stack in the foreground of a terminal: up until a signal ends it."""

import asyncio
import signal

from local_stack.config import StackConfig
from local_stack.stack import Stack
from local_stack.view import View, watch

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
ENDED_IN_ORDER = 0
ENDED_AT_ONCE = 130


async def run(config: StackConfig, view: View) -> int:
    """Run the stack until the first signal, which ends it in order; the second ends it at once. The exit code."""
    main = asyncio.current_task()
    signals = 0

    def end() -> None:
        nonlocal signals
        signals += 1
        if signals == 1:
            view.tell("ending everything in order; Ctrl-C once more ends it at once")
        if main is not None:
            main.cancel()

    for number in SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, end)
    try:
        with view.shown():
            async with Stack.running(config, view.tell) as stack:
                view.show(stack)
                await watch(stack, view)
    except asyncio.CancelledError:
        return ENDED_IN_ORDER if signals == 1 else ENDED_AT_ONCE
