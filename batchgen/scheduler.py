"""The scheduler: claim within the limits → commit the intent → submit → store the id."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection

from batchgen import budget, clock, inputs, limits
from batchgen.budget import Choice
from batchgen.jobtable import submission
from batchgen.jobtable.submission import Intent
from batchgen.service.base import (
    Accepted,
    Blocked,
    NotSent,
    Rejected,
    Submission,
    SubmitOutcome,
    Throttled,
    Unknown,
)
from batchgen.stage import LEASE, Stage, Work

FIRST_LOOK_UP = timedelta(seconds=2)  # at the service's log, for an answer that was lost
FAILURES_TO_PROBE = 3  # creates in a row without a plain answer; then one at a time


@dataclass(frozen=True, slots=True)
class Claim:
    """Intents that are committed, and when more may be made."""

    intents: list[Intent]
    next_at: datetime | None


class Scheduler(Stage):
    """Submits pending jobs, at most as fast and as many at once as the limits say."""

    def __init__(self, work: Work, at_once: int) -> None:
        super().__init__(work, at_once)
        self.limit = f"submits to {work.service.name}"
        self.failures = 0
        self.on_doubt: Callable[[], None] = lambda: None

    @property
    def room(self) -> int:
        if self.work.blocked or self.work.disk:
            return 0
        probing = self.failures >= FAILURES_TO_PROBE
        return min(super().room, 1 - len(self.tasks)) if probing else super().room

    async def tick(self, now: datetime) -> datetime | None:
        if self.room <= 0:
            return None
        claim = await self.work.database.write(self.claim, now, self.room)
        for intent in claim.intents:
            self.begin(self.submit(intent))
        return claim.next_at

    def claim(self, connection: Connection, now: datetime, room: int) -> Claim:
        """As many jobs as rate, generations in flight and `room` allow, in one transaction with their intents."""
        work = self.work
        flying = submission.in_flight(connection, work.service.name, now)
        wanted = min(room, work.limits.in_flight - flying)
        if wanted <= 0:
            return Claim([], None)
        rate = work.limits.submits_per_minute
        allowance = limits.allowed(connection, self.limit, rate, wanted, now)
        if not allowance.number:
            pending = submission.any_pending(connection, work.batch_id)
            return Claim([], allowance.next_at if pending else None)
        base_url = work.service.base_url if work.service.name != "simulator" else None
        choice = self.choose(connection, now, allowance.number)
        work.hold = budget.MEANWHILE[choice.hold] if choice.hold and not choice.chosen else ""
        until = now + LEASE
        intents = submission.intend(
            connection, work.batch_id, work.run, now, until, allowance.number, base_url, choice.chosen
        )
        limits.spend(connection, self.limit, rate, len(intents), now)
        more = len(intents) == allowance.number
        return Claim(intents, allowance.next_at if more else None)

    def choose(self, connection: Connection, now: datetime, room: int) -> Choice:
        """What of the pending jobs keeps to the run's terms."""
        work = self.work
        return budget.choose(
            connection, work.batch_id, work.service.name, now, room, work.terms, work.prices, work.pace.longest
        )

    async def submit(self, intent: Intent) -> None:
        """One create request, from its committed intent to its recorded outcome."""
        work, job = self.work, intent.job
        try:
            given = (work.folder, job.request, job.files)
            body, seen = await asyncio.to_thread(inputs.encode, *given) if job.files else inputs.encode(*given)
        except inputs.InputMissing as error:
            missing = Rejected(f"{error}; nothing was sent")
            await work.database.write(submission.rejected, intent, missing, clock.utcnow(), "input")
            return
        outcome = await work.service.submit(Submission(job.endpoint, body, intent.client_request_id))
        await self.record(intent, outcome, seen)

    async def record(self, intent: Intent, outcome: SubmitOutcome, seen: str | None) -> None:
        """Write down what became of a create request, and slow down or stop where it says so."""
        work, now = self.work, clock.utcnow()
        write = work.database.write
        if isinstance(outcome, NotSent):
            work.contact.silent(outcome.reason, now)
        else:
            work.contact.answered()
        self.failures = self.failures + 1 if isinstance(outcome, NotSent | Unknown) else 0
        match outcome:
            case Accepted():
                deadline = now + timedelta(minutes=work.limits.deadline_minutes)
                look = work.pace.next_look(intent.job, now, deadline, now)
                await write(self.store, intent, outcome, now, deadline, look, seen)
            case Rejected():
                await write(submission.rejected, intent, outcome, now)
            case Unknown():
                await write(submission.unconfirmed, intent, outcome, now, now + FIRST_LOOK_UP)
                self.on_doubt()
                if self.failures >= FAILURES_TO_PROBE:
                    reason = f"{self.failures} creates in a row without a plain answer ({outcome.reason})"
                    await write(limits.pause, self.limit, reason, now)
            case NotSent():
                await write(self.give_back, intent, outcome, now, f"the service cannot be reached ({outcome.reason})")
            case Throttled():
                await write(self.give_back, intent, outcome, now, f"the service asks to slow down ({outcome.reason})")
            case Blocked():
                work.blocked = work.blocked or outcome
                await write(submission.returned, intent, outcome, now)

    def store(
        self,
        connection: Connection,
        intent: Intent,
        outcome: Accepted,
        now: datetime,
        deadline: datetime,
        look: datetime,
        seen: str | None,
    ) -> None:
        submission.accepted(connection, intent, outcome, now, deadline, look, seen)
        limits.relent(connection, self.limit)

    def give_back(
        self, connection: Connection, intent: Intent, outcome: NotSent | Throttled, now: datetime, reason: str
    ) -> None:
        submission.returned(connection, intent, outcome, now)
        asked = outcome.retry_after if isinstance(outcome, Throttled) else None
        limits.pause(connection, self.limit, reason, now, asked)
