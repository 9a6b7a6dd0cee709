"""The reconciler: unconfirmed attempts → the service's request log → adopt, send again, wait, or hold for a person."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection

from batchgen import clock
from batchgen.jobs import State
from batchgen.jobtable import leases, reconciliation
from batchgen.jobtable.reconciliation import UnconfirmedAttempt
from batchgen.jobtable.transition import next_due
from batchgen.limits.generation_times import backoff
from batchgen.services.base import LoggedRequest, LogPage, Trouble, Unavailable
from batchgen.stage import LEASE, Stage

RETRY_FIRST_SECONDS = 3.0
RETRY_LONGEST_SECONDS = 120.0
"""Pauses between two readings of the log for one attempt: they double from the first to the longest."""
UNCONFIRMED_AT_ONCE = 500
"""Attempts claimed at once. One window of the log serves all of about the same time."""
UNREAD_RETRIES = 30
"""How often a log is read that does not answer, or not to its end: about an hour. Then a person decides."""
SAME_FAILURES = 3
"""A job that failed so often in the same way, while other jobs were accepted, is itself at fault."""
BEFORE, AFTER = timedelta(hours=1), timedelta(minutes=30)
"""How far around the time of sending the log is read: clocks differ, and requests take their time."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One reading of the log: its rows by client request id, and whether absence from it proves anything."""

    rows: dict[str, LoggedRequest]
    began_at: datetime
    """When the log was asked. Its answer is of this moment, however late it was read: the machine may have slept."""
    supported: bool = True
    """Whether the service has a log at all."""
    complete: bool = False
    """Whether the log was read to its end."""
    retry_after: timedelta | None = None


class Reconciler(Stage):
    """Finds out what became of requests whose answer was lost. It never sends one again without an order."""

    async def tick(self, now: datetime) -> datetime | None:
        if self.capacity <= 0:
            return None
        attempts, next_at = await self.context.database.write(self.claim, now)
        if attempts:
            self.begin(self.reconcile(attempts))
        return next_at

    def claim(self, connection: Connection, now: datetime) -> tuple[list[UnconfirmedAttempt], datetime | None]:
        """The unconfirmed attempts whose next reading is due, and when the next one is."""
        context = self.context
        leases.recover_expired(connection, context.batch_id, now)
        attempts = reconciliation.claim_unconfirmed(
            connection, context.batch_id, context.run, now, now + LEASE, UNCONFIRMED_AT_ONCE
        )
        due = [next_due(connection, context.batch_id, state) for state in (State.UNCONFIRMED, State.SUBMITTING)]
        return attempts, min((moment for moment in due if moment), default=None)

    async def reconcile(self, attempts: Sequence[UnconfirmedAttempt]) -> None:
        """Read the log once for all attempts of about the same time, and decide each of them."""
        for window in windows(attempts):
            reading = await self.read_log(window)
            await self.context.database.write(self.decide_all, window, reading, clock.utcnow())

    async def read_log(self, attempts: Sequence[UnconfirmedAttempt]) -> Reading:
        """Read the part of the service's log that must hold these attempts, which are sorted by time."""
        context, now = self.context, clock.utcnow()
        if not context.service.has_log:
            return Reading({}, now, supported=False)
        page = await context.service.log(attempts[0].sent_at - BEFORE, attempts[-1].sent_at + AFTER)
        if isinstance(page, LogPage):
            # A request may be logged several times on its way. The row that names a generation is the one that counts.
            rows = sorted(page.rows, key=lambda row: row.generation_id is not None)
            return Reading({row.client_request_id: row for row in rows}, now, complete=page.complete)
        if isinstance(page, Unavailable) and page.trouble is Trouble.AUTH:
            context.lock_out(page)
        return Reading({}, now, retry_after=page.retry_after)

    def decide_all(
        self, connection: Connection, attempts: Sequence[UnconfirmedAttempt], reading: Reading, now: datetime
    ) -> None:
        for attempt in attempts:
            self.decide(connection, attempt, reading, now)

    def decide(self, connection: Connection, attempt: UnconfirmedAttempt, reading: Reading, now: datetime) -> None:
        """What the log says of one attempt: accepted, failed at the service, or not known yet."""
        row = reading.rows.get(attempt.client_request_id)
        if row and row.generation_id:
            deadline = now + timedelta(minutes=self.context.limits.deadline_minutes)
            charge = row.cost_usd or None  # Zero is no charge yet: the service charges when the generation completes.
            reconciliation.adopted(connection, attempt, row.generation_id, charge, row.created, now, deadline)
        elif row and not row.succeeded:
            self.refute(connection, attempt, now)
        else:
            self.wait_or_hold(connection, attempt, reading, row is not None, now)

    def refute(self, connection: Connection, attempt: UnconfirmedAttempt, now: datetime) -> None:
        """It failed at the service, which took nothing: send it again, unless it alone fails time and again."""
        failures = reconciliation.failures_like(connection, attempt) + 1
        if failures >= SAME_FAILURES and reconciliation.others_succeed(connection, attempt):
            reason = f"failed {failures} times at the service: {attempt.reason}"
            reconciliation.failed(connection, attempt, reason, now)
        else:
            reconciliation.refuted(connection, attempt, "the service's log shows that it failed there", now)

    def wait_or_hold(
        self, connection: Connection, attempt: UnconfirmedAttempt, reading: Reading, logged: bool, now: datetime
    ) -> None:
        """Not known yet: read the log again after a growing pause. After all patience, do what the manifest says."""
        limits = self.context.limits
        patient = reading.began_at - attempt.sent_at < timedelta(minutes=limits.unconfirmed_minutes)
        unread = not reading.complete and attempt.failures < UNREAD_RETRIES
        if reading.supported and (patient or unread):
            pause = backoff(attempt.failures + 1, RETRY_FIRST_SECONDS, RETRY_LONGEST_SECONDS)
            reconciliation.postponed(connection, attempt, now + max(pause, reading.retry_after or pause))
        elif reading.complete and not logged and limits.on_unconfirmed == "resubmit":
            reason = f"not in the service's log after {limits.unconfirmed_minutes:g} minutes; sent again as ordered"
            reconciliation.refuted(connection, attempt, reason, now)
        else:
            reconciliation.postponed(connection, attempt, None)


def windows(attempts: Sequence[UnconfirmedAttempt]) -> Iterator[list[UnconfirmedAttempt]]:
    """Groups of attempts that were sent at about the same time, oldest first."""
    window: list[UnconfirmedAttempt] = []
    for attempt in sorted(attempts, key=lambda attempt: attempt.sent_at):
        if window and attempt.sent_at - window[-1].sent_at > BEFORE + AFTER:
            yield window
            window = []
        window.append(attempt)
    if window:
        yield window
