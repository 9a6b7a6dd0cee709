"""What the four stages have in common: work in hand, and a bell to wake the runner's loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from batchgen.jobtable.database import Database
from batchgen.jobtable.pricelist import PriceList
from batchgen.limits.budget import Terms
from batchgen.limits.generation_times import GenerationTimes
from batchgen.manifest import Limits
from batchgen.services.base import Blocked, Service, Trouble, Unavailable

LEASE = timedelta(minutes=5)
"""How long a job stays held by a run that is not heard of. Longer than any one request may take."""


@dataclass(slots=True)
class Contact:
    """Whether the service answers at all."""

    silent_since: datetime | None = None
    ever: bool = False
    reason: str = ""

    def answered(self) -> None:
        self.ever = True
        self.silent_since = None

    def silent(self, reason: str, now: datetime) -> None:
        self.reason = reason
        self.silent_since = self.silent_since or now


@dataclass(slots=True)
class RunContext:
    """What the stages of one run share: where the table is, whom to talk to, and what the run has learned."""

    database: Database
    service: Service
    batch_id: int
    run: str
    folder: Path
    limits: Limits
    times: GenerationTimes
    models: Sequence[str] = ()
    """Those of the batch."""
    terms: Terms = field(default_factory=Terms)
    prices: PriceList = field(default_factory=PriceList)
    contact: Contact = field(default_factory=Contact)
    blocked: Blocked | None = None
    """Set once the account may not submit: no more submits in this run."""
    locked_out: bool = False
    """Set once the key is refused for questions too: nobody tells how the generations stand."""
    hold: str = ""
    """Why pending jobs are not sent although there is room; empty while they are."""
    warning: str = ""
    """What a person should know, though the run goes on."""
    disk: str | None = None
    """Set once the output folder cannot be written: no more downloads in this run."""

    def lock_out(self, answer: Unavailable) -> None:
        """The service does not answer questions asked with this key."""
        self.locked_out = True
        self.blocked = self.blocked or Blocked(Trouble.AUTH, answer.reason, answer.http_status)


class Stage:
    """A stage claims what is due and what fits, works on it concurrently, and writes down what came of it.

    `tick(now)` claims and begins; it returns when it next has work by itself, None if only another stage can bring any.
    """

    def __init__(self, context: RunContext, at_once: int) -> None:
        self.context = context
        self.at_once = at_once
        self.tasks: set[asyncio.Task[Any]] = set()
        self.wakeup = asyncio.Event()
        self.stopping = False
        self.failure: BaseException | None = None
        self.on_change: Callable[[Stage, bool], None] = lambda _stage, _moved: None

    @property
    def capacity(self) -> int:
        """How many more pieces of work fit in hand."""
        return 0 if self.stopping else self.at_once - len(self.tasks)

    async def tick(self, now: datetime) -> datetime | None:
        raise NotImplementedError

    def begin(self, context: Coroutine[Any, Any, bool | None]) -> None:
        """Take a piece of work in hand; the bell rings when it ends, and those of the stages that it has brought
        something, unless it returns False: then it has moved no job."""
        task = asyncio.create_task(context)
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
        """Claim nothing more, and wait for what is in hand."""
        self.stopping = True
        while self.tasks:
            await asyncio.wait(self.tasks)
