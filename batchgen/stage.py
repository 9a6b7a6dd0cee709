"""`Stage`: a bounded set of tasks that claims what is due, works on it, and writes down the outcome."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from batchgen.context import RunContext
from batchgen.jobs import Job
from batchgen.jobtable.transition import Claim

LEASE = timedelta(minutes=5)
"""How long a claimed job stays with a run that no longer renews its leases. No single request may take this long."""


class Stage:
    """A stage claims what is due and within its capacity, works on it in tasks, and writes down the outcome."""

    def __init__(self, context: RunContext, at_once: int) -> None:
        self.context = context
        self.at_once = at_once
        self.tasks: set[asyncio.Task[Any]] = set()
        self.wakeup = asyncio.Event()
        self.stopping = False
        self.log = logging.getLogger(f"batchgen.{type(self).__name__.lower()}")
        self.failure: BaseException | None = None
        """An exception that no task may raise: a defect, or a job table that cannot be used. It ends the run."""
        self.on_change: Callable[[Stage, bool], None] = lambda _stage, _moved: None

    @property
    def capacity(self) -> int:
        """How many more tasks may begin."""
        return 0 if self.stopping else self.at_once - len(self.tasks)

    async def tick(self, now: datetime) -> datetime | None:
        """Claim what is due, and begin tasks. Returns when the stage next has work by itself; None if only another
        stage can bring it work."""
        if self.capacity <= 0:
            return None
        claimed, next_at = await self.context.database.write(self.claim, now, self.capacity)
        for item in claimed:
            self.begin(self.work(item))
        return next_at

    def claim(self, connection: Connection, now: datetime, capacity: int) -> tuple[Sequence[Any], datetime | None]:
        """What is due, at most so much, and when more is. A stage with a `tick` of its own has none."""
        raise NotImplementedError

    def claim_of(self, now: datetime, capacity: int) -> Claim:
        """At most so many due jobs of the batch, for this run."""
        return Claim(self.context.batch_id, self.context.run_id, now, now + LEASE, capacity)

    async def work(self, item: Any) -> bool | None:
        """Work on what was claimed. False: no job has moved."""
        raise NotImplementedError

    def log_answer(self, request: str, job: Job, outcome: object) -> None:
        """Count and log what a request came to, such as `create.not_sent`, with the fields `job` and `reason`.

        None is `unread`: the service's memory could not be searched to the end.
        """
        fields = {"job": job.key, "reason": getattr(outcome, "reason", None)}
        name = re.sub(r"(?<!^)(?=[A-Z])", "_", type(outcome).__name__).lower() if outcome else "unread"
        self.context.answers[request, name] += 1
        self.log.debug(f"{request}.{name}", extra=fields)

    def begin(self, work: Coroutine[Any, Any, bool | None]) -> None:
        """Run `work` as a task. When it ends, `on_change` is called; with False if it returned False: no job moved."""
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self.tasks.discard(task)
        moved = True
        if not task.cancelled():
            if error := task.exception():
                self.failure = error
            else:
                moved = task.result() is not False
        self.on_change(self, moved)

    async def finish(self) -> None:
        """Claim nothing more, and wait for the tasks that are running."""
        self.stopping = True
        while self.tasks:
            await asyncio.wait(self.tasks)

    def cancel(self) -> None:
        """Cancel the tasks that are running."""
        for task in self.tasks:
            task.cancel()


async def wait_for(event: asyncio.Event, seconds: float) -> bool:
    """Wait for `event`, at most `seconds`. Whether it is set."""
    if not event.is_set() and seconds > 0:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await event.wait()
    return event.is_set()


def call_in(loop: asyncio.AbstractEventLoop, function: Callable[..., object], *args: Any) -> None:
    """Call a function in an event loop, from another thread; nothing where the loop has ended."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(function, *args)
