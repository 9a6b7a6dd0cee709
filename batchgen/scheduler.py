"""The scheduler: claim within the limits → commit the intent → submit → store the id."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import Connection

from batchgen import clock
from batchgen.files import local_files
from batchgen.jobtable import submission
from batchgen.jobtable.submission import Candidate, Intent
from batchgen.limits import budget, rate
from batchgen.limits.admission import Admission, Capacity, Flight
from batchgen.limits.budget import Choice
from batchgen.services.base import (
    Accepted,
    Blocked,
    NotSent,
    Rejected,
    Submission,
    SubmitOutcome,
    Throttled,
    Unknown,
)
from batchgen.stage import LEASE, RunContext, Stage

FIRST_LOOK_UP = timedelta(seconds=2)  # at the service's log, for an answer that was lost
LONG_PAUSE = timedelta(minutes=1)  # worth telling a person of
FAILURES_TO_PROBE = 3  # creates in a row without a plain answer; then one at a time


@dataclass(frozen=True, slots=True)
class Claim:
    """Intents that are committed, and when more may be made."""

    intents: list[Intent]
    next_at: datetime | None
    capacity: Capacity = field(default_factory=lambda: Capacity(0))


class Scheduler(Stage):
    """Submits pending jobs, at most as fast and as many at once as the limits say."""

    def __init__(self, context: RunContext, at_once: int) -> None:
        super().__init__(context, at_once)
        service = context.service
        self.admission = Admission(service.name, service.account, context.limits, context.models)
        self.failures = 0
        self.on_unconfirmed: Callable[[], None] = lambda: None

    @property
    def capacity(self) -> int:
        if self.context.blocked or self.context.disk:
            return 0
        probing = self.failures >= FAILURES_TO_PROBE
        return min(super().capacity, 1 - len(self.tasks)) if probing else super().capacity

    async def tick(self, now: datetime) -> datetime | None:
        if self.capacity <= 0:
            return None
        claim = await self.context.database.write(self.claim, now, self.capacity)
        for intent in claim.intents:
            flight = claim.capacity.flights.get(intent.job.model) or Flight(now)
            self.begin(self.submit(intent, flight))
        return claim.next_at

    def claim(self, connection: Connection, now: datetime, wanted: int) -> Claim:
        """As many of `wanted` jobs as rates, generations in flight and the budget allow, in one transaction with their
        intents."""
        context = self.context
        capacity = self.admission.capacity(connection, now, wanted)
        if not capacity.number:
            pending = capacity.next_at is not None and submission.any_pending(connection, context.batch_id)
            if capacity.paused_for and capacity.next_at and capacity.next_at - now >= LONG_PAUSE:
                context.hold, context.hold_until = capacity.paused_for, capacity.next_at
            return Claim([], capacity.next_at if pending else None)
        base_url = context.service.base_url if context.service.name != "simulator" else None
        choice = self.choose(connection, now, capacity.number, capacity.barred)
        context.hold, context.hold_until = "", None
        if choice.hold and not choice.chosen:
            context.hold = budget.MEANWHILE[choice.hold]
        chosen = list(within(choice.chosen, capacity))
        intents = submission.intend(
            connection, context.batch_id, context.run, now, now + LEASE, capacity.number, base_url, chosen
        )
        self.admission.spend(connection, [intent.job.model for intent in intents], now)
        more = len(choice.chosen) == capacity.number
        return Claim(intents, capacity.next_at if more else None, capacity)

    def choose(self, connection: Connection, now: datetime, capacity: int, barred: Collection[str] = ()) -> Choice:
        """What of the pending jobs keeps to the run's terms."""
        context = self.context
        longest = context.times.longest
        return budget.choose(
            connection,
            context.batch_id,
            context.service.name,
            now,
            capacity,
            context.terms,
            context.prices,
            longest,
            barred,
        )

    async def submit(self, intent: Intent, flight: Flight) -> None:
        """One create request, from its committed intent to its recorded outcome."""
        context, job = self.context, intent.job
        try:
            given = (context.folder, job.request, job.input_pointers)
            body, seen = (
                await asyncio.to_thread(local_files.encode, *given)
                if job.input_pointers
                else local_files.encode(*given)
            )
        except local_files.InputMissing as error:
            missing = Rejected(f"{error}; nothing was sent")
            await context.database.write(submission.rejected, intent, missing, clock.utcnow(), "input")
            return
        outcome = await context.service.submit(Submission(job.endpoint, body, intent.client_request_id))
        await self.record(intent, flight, outcome, seen)

    async def record(self, intent: Intent, flight: Flight, outcome: SubmitOutcome, seen: str | None) -> None:
        """Write down what became of a create request, and slow down or stop where it says so."""
        context, now = self.context, clock.utcnow()
        write = context.database.write
        if isinstance(outcome, NotSent):
            context.contact.silent(outcome.reason, now)
        else:
            context.contact.answered()
        self.failures = self.failures + 1 if isinstance(outcome, NotSent | Unknown) else 0
        match outcome:
            case Accepted():
                deadline = now + timedelta(minutes=context.limits.deadline_minutes)
                look = context.times.next_poll_at(intent.job, now, deadline, now)
                await write(self.store, intent, flight, outcome, now, deadline, look, seen)
            case Rejected():
                await write(submission.rejected, intent, outcome, now)
            case Unknown():
                await write(submission.unconfirmed, intent, outcome, now, now + FIRST_LOOK_UP)
                self.on_unconfirmed()
                if self.failures >= FAILURES_TO_PROBE:
                    reason = f"{self.failures} creates in a row without a plain answer ({outcome.reason})"
                    await write(rate.pause, self.admission.limit, reason, now)
            case NotSent():
                await write(self.unsent, intent, outcome, now)
            case Throttled():
                await write(self.throttled, intent, flight, outcome, now)
            case Blocked():
                context.blocked = context.blocked or outcome
                await write(submission.returned, intent, outcome, now)

    def store(
        self,
        connection: Connection,
        intent: Intent,
        flight: Flight,
        outcome: Accepted,
        now: datetime,
        deadline: datetime,
        look: datetime,
        seen: str | None,
    ) -> None:
        submission.accepted(connection, intent, outcome, now, deadline, look, seen)
        self.admission.accepted(connection, intent.job.model, flight, now)

    def unsent(self, connection: Connection, intent: Intent, outcome: NotSent, now: datetime) -> None:
        submission.returned(connection, intent, outcome, now)
        reason = f"the service cannot be reached ({outcome.reason})"
        rate.pause(connection, self.admission.limit, reason, now)

    def throttled(
        self, connection: Connection, intent: Intent, flight: Flight, outcome: Throttled, now: datetime
    ) -> None:
        submission.returned(connection, intent, outcome, now)
        self.admission.refused(connection, intent.job.model, flight, outcome, now)


def within(chosen: Sequence[Candidate], capacity: Capacity) -> Iterator[Candidate]:
    """Those for which there is room of their model."""
    if not capacity.of_model:
        yield from chosen
        return
    taken: Counter[str] = Counter()
    for each in chosen:
        taken[each.model] += 1
        if taken[each.model] <= capacity.of_model.get(each.model, 0):
            yield each
