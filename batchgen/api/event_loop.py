"""A coroutine for callers without an event loop, and for those whose loop is running."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any, TypeVar

INTERRUPT_SECONDS = 0.2  # between two checks for Ctrl-C, while another event loop waits for a run
END_SECONDS = 5.0  # for tasks and calls in threads, once all else has ended

T = TypeVar("T")


class Threads(ThreadPoolExecutor):
    """Threads that the end of an event loop does not wait for long: a plug-in's, or a disk's, may never end."""

    def __init__(self) -> None:
        self.prefix = f"batchgen-{id(self):x}"
        super().__init__(thread_name_prefix=self.prefix)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        super().shutdown(wait=False, cancel_futures=cancel_futures)
        for thread in threading.enumerate() if wait else ():
            if thread.name.startswith(self.prefix):
                thread.join(END_SECONDS)
                if thread.is_alive():
                    return


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine as `asyncio.run` does; it ends though a thread hangs, or a task that will not be cancelled."""
    runner = asyncio.Runner()
    runner.get_loop().set_default_executor(Threads())
    try:
        return runner.run(coroutine)
    finally:
        if runner.run(cancel_others()):
            runner.close()
        else:
            runner.get_loop().set_exception_handler(lambda *_: None)  # of a task that is destroyed in the end


async def cancel_others() -> bool:
    """Cancel all other tasks. Whether they have ended within some seconds."""
    if not (others := asyncio.all_tasks() - {asyncio.current_task()}):
        return True
    for task in others:
        task.cancel()
    return not (await asyncio.wait(others, timeout=END_SECONDS))[1]


def complete(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, in a thread of its own where this one has a running event loop. Ctrl-C cancels it."""
    if not is_loop_running():
        return run(coroutine)
    caller = asyncio.current_task()
    tasks: list[asyncio.Task[Any]] = []

    async def main() -> T:
        tasks.extend(filter(None, [asyncio.current_task()]))
        return await coroutine

    with ThreadPoolExecutor(1, "batchgen-run") as thread:
        result = thread.submit(run, main())
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
