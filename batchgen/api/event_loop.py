"""A coroutine for callers without an event loop, and for those whose loop is running."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any, TypeVar

INTERRUPT_SECONDS = 0.2  # between two checks for Ctrl-C, while another event loop waits for a run

T = TypeVar("T")


def complete(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, in a thread of its own where this one has a running event loop. Ctrl-C cancels it."""
    if not is_loop_running():
        return asyncio.run(coroutine)
    caller = asyncio.current_task()
    tasks: list[asyncio.Task[Any]] = []

    async def main() -> T:
        tasks.extend(filter(None, [asyncio.current_task()]))
        return await coroutine

    with ThreadPoolExecutor(1, "batchgen-run") as thread:
        result = thread.submit(asyncio.run, main())
        try:
            while not result.done():
                wait([result], INTERRUPT_SECONDS)
                if caller and caller.cancelling():  # asyncio.run() handles Ctrl-C in this way
                    raise asyncio.CancelledError
            return result.result()
        except (KeyboardInterrupt, asyncio.CancelledError):
            for task in tasks:
                task.get_loop().call_soon_threadsafe(task.cancel)
            raise


def is_loop_running() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
