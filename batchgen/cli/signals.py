"""Signals of a run or a worker: the first stops it in good order, the second at once."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from signal import Signals

AGAIN_SECONDS = 0.01  # after a Ctrl-C that Python could not raise
END_SECONDS = 3.0  # after a second signal, for the outcomes of creates: then the process ends, whatever it waits for


def end_soon(number: int) -> None:
    """End the process in a moment, whatever it waits for: its job table may be on a server that never answers."""
    last_resort = threading.Timer(END_SECONDS, os._exit, [128 + number])
    last_resort.daemon = True
    last_resort.start()


@contextmanager
def interrupts_end() -> Iterator[None]:
    """Until a run handles signals itself, Ctrl-C ends it, and a second one at once, whatever it waits for.

    asyncio would only cancel its task at the first one, and PostgreSQL's driver would take the second one for an order
    to cancel a query, and wait ten seconds for the server. A Ctrl-C that is ignored stays ignored.
    """
    received: list[int] = []

    def handle(number: int, _frame: object) -> None:
        received.append(number)
        if len(received) == 2:
            end_soon(number)
        raise KeyboardInterrupt

    def repeat(unraisable: sys.UnraisableHookArgs) -> None:
        if not isinstance(unraisable.exc_value, KeyboardInterrupt):
            hook(unraisable)
            return
        # Python lets no callback of a weak reference raise, so the interrupt has to be sent again.
        received.clear()
        threading.Timer(AGAIN_SECONDS, os.kill, [os.getpid(), signal.SIGINT]).start()

    before, hook = signal.getsignal(signal.SIGINT), sys.unraisablehook
    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, handle)
        sys.unraisablehook = repeat
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        sys.unraisablehook = hook


@contextmanager
def signals_handled(stop: Callable[[Signals], None]) -> Iterator[None]:
    """Let `stop` have each signal: the first ends a run in good order, the second at once. A terminal that hangs up is
    a signal.

    A hang-up that is ignored stays ignored: `nohup` says that the run is to go on.
    """
    loop = asyncio.get_running_loop()
    numbers = [signal.SIGINT, signal.SIGTERM]
    hangup = getattr(signal, "SIGHUP", None)  # Windows has none
    if hangup and signal.getsignal(hangup) is not signal.SIG_IGN:
        numbers.append(hangup)
    before = {number: signal.getsignal(number) for number in numbers}
    received: list[Signals] = []
    is_over = False

    def handle(number: int, _frame: object) -> None:
        received.append(signal.SIGTERM if number == hangup else signal.Signals(number))
        if len(received) == 2:
            end_soon(received[0])
        if not is_over:
            loop.call_soon_threadsafe(stop, received[-1])

    for number in numbers:
        signal.signal(number, handle)
    try:
        yield
    finally:
        is_over = True
        for number, handler in before.items():
            # After a first signal only the summary is left; a second one gives it a moment to say how to go on.
            signal.signal(number, handle if received else handler)
