"""Signals of a run or a worker: the first stops it in good order, the second at once."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from signal import Signals
from typing import Protocol


class Stoppable(Protocol):
    """A run, or a worker with several."""

    signal: Signals | None

    def stop(self, stopped_by: Signals) -> None: ...


@contextmanager
def signals_handled(runner: Stoppable) -> Iterator[None]:
    """Let the first signal stop the run in good order, and the second at once. A terminal that hangs up is a signal.

    A hang-up that is ignored stays ignored: `nohup` says that the run is to go on.
    """
    loop = asyncio.get_running_loop()
    numbers = [signal.SIGINT, signal.SIGTERM]
    hangup = getattr(signal, "SIGHUP", None)  # Windows has none
    if hangup and signal.getsignal(hangup) is not signal.SIG_IGN:
        numbers.append(hangup)
    before = {number: signal.getsignal(number) for number in numbers}

    def handle(number: int, _frame: object) -> None:
        stopped_by = signal.SIGTERM if number == hangup else signal.Signals(number)
        loop.call_soon_threadsafe(runner.stop, stopped_by)

    for number in numbers:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            # After a first signal only the summary is left; a second one must not cut off how to go on.
            signal.signal(number, signal.SIG_IGN if runner.signal else handler)
