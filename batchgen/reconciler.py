"""The reconciler: unconfirmed attempts → the service's log → adopt, wait, or hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection

from batchgen import clock
from batchgen.jobs import State
from batchgen.jobtable import leases, reconciliation
from batchgen.jobtable.reconciliation import UnconfirmedAttempt
from batchgen.jobtable.transition import next_due
from batchgen.limits.generation_times import backoff
from batchgen.services.base import LogPage, Throttled, Trouble, Unavailable
from batchgen.stage import LEASE, Stage

LOOK_FIRST_SECONDS = 3.0
LOOK_LONGEST_SECONDS = 120.0
UNCONFIRMED_AT_ONCE = 500
UNREAD_LOOKS = 30  # an hour or so, at a log that cannot be read to its end; then a person decides
SAME_FAILURES = 3  # of one job, while others succeed
BEFORE, AFTER = timedelta(hours=1), timedelta(minutes=30)
"""How far around the time of sending the log is read: clocks differ, and requests take their time."""


class Reconciler(Stage):
    """Finds out what became of requests whose answer was lost. One window of the log serves many attempts."""

    async def tick(self, now: datetime) -> datetime | None:
        if self.capacity <= 0:
            return None
        unconfirmed, next_at = await self.context.database.write(self.claim, now)
        if unconfirmed:
            self.begin(self.look(unconfirmed))
        return next_at

    def claim(self, connection: Connection, now: datetime) -> tuple[list[UnconfirmedAttempt], datetime | None]:
        context = self.context
        leases.recover_expired(connection, context.batch_id, now)
        found = reconciliation.claim_unconfirmed(
            connection, context.batch_id, context.run, now, now + LEASE, UNCONFIRMED_AT_ONCE
        )
        waits = [next_due(connection, context.batch_id, state) for state in (State.UNCONFIRMED, State.SUBMITTING)]
        return found, min((moment for moment in waits if moment), default=None)

    async def look(self, unconfirmed: Sequence[UnconfirmedAttempt]) -> None:
        """Read the log, one window for all attempts of about the same time, and decide each."""
        for window in windows(unconfirmed):
            await self.look_at(window)

    async def look_at(self, unconfirmed: Sequence[UnconfirmedAttempt]) -> None:
        context, asked = self.context, clock.utcnow()
        page: LogPage | Unavailable | Throttled | None = None
        if context.service.has_log:
            page = await context.service.log(unconfirmed[0].sent_at - BEFORE, unconfirmed[-1].sent_at + AFTER)
        if isinstance(page, Unavailable) and page.trouble is Trouble.AUTH:
            context.lock_out(page)
        await context.database.write(self.decide, unconfirmed, page, asked, clock.utcnow())

    def decide(
        self,
        connection: Connection,
        unconfirmed: Sequence[UnconfirmedAttempt],
        page: LogPage | Unavailable | Throttled | None,
        asked: datetime,
        now: datetime,
    ) -> None:
        found = page.rows if isinstance(page, LogPage) else ()
        # A request may be logged more than once on its way; a row that names a generation is the one that counts.
        rows = {row.client_request_id: row for row in sorted(found, key=lambda row: row.generation_id is not None)}
        for attempt in unconfirmed:
            row = rows.get(attempt.client_request_id)
            if row and row.generation_id:
                deadline = now + timedelta(minutes=self.context.limits.deadline_minutes)
                charge = row.cost_usd or None  # nothing yet: it is charged when it completes
                reconciliation.adopted(connection, attempt, row.generation_id, charge, row.created, now, deadline)
            elif row and not row.succeeded:
                self.give_back(connection, attempt, now)
            else:
                # Only a log that was read to its end can show that something is not in it, and only as it was then:
                # this machine may have slept while the answer lay in its buffers.
                patient = asked - attempt.sent_at < timedelta(minutes=self.context.limits.unconfirmed_minutes)
                self.wait_or_hold(connection, attempt, page, patient, row is not None, now)

    def give_back(self, connection: Connection, attempt: UnconfirmedAttempt, now: datetime) -> None:
        """It failed at the service, which took nothing. A job that alone fails so time and again is itself at fault."""
        times = reconciliation.failures_like(connection, attempt) + 1
        if times >= SAME_FAILURES and reconciliation.others_succeed(connection, attempt):
            reconciliation.failed(connection, attempt, f"failed {times} times at the service: {attempt.reason}", now)
        else:
            reconciliation.refuted(connection, attempt, "the service's log shows that it failed there", now)

    def wait_or_hold(
        self,
        connection: Connection,
        attempt: UnconfirmedAttempt,
        page: LogPage | Unavailable | Throttled | None,
        patient: bool,
        logged: bool,
        now: datetime,
    ) -> None:
        """Not known yet: look again with growing pauses, and after all patience do what the manifest says."""
        limits = self.context.limits
        unread = not isinstance(page, LogPage) or not page.complete
        if page is not None and (patient or (unread and attempt.failures < UNREAD_LOOKS)):
            pause = backoff(attempt.failures + 1, LOOK_FIRST_SECONDS, LOOK_LONGEST_SECONDS)
            asked = page.retry_after if isinstance(page, Unavailable | Throttled) else None
            reconciliation.looked(connection, attempt, now + max(pause, asked or pause))
        elif page is not None and not unread and not logged and limits.on_unconfirmed == "resubmit":
            told = f"not in the service's log after {limits.unconfirmed_minutes:g} minutes; sent again as ordered"
            reconciliation.refuted(connection, attempt, told, now)
        else:
            reconciliation.looked(connection, attempt, None)


def windows(unconfirmed: Sequence[UnconfirmedAttempt]) -> Iterator[list[UnconfirmedAttempt]]:
    """Groups of attempts that were sent at about the same time, oldest first."""
    window: list[UnconfirmedAttempt] = []
    for attempt in sorted(unconfirmed, key=lambda attempt: attempt.sent_at):
        if window and attempt.sent_at - window[-1].sent_at > BEFORE + AFTER:
            yield window
            window = []
        window.append(attempt)
    if window:
        yield window
