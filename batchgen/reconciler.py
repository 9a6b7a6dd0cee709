"""The reconciler: unconfirmed attempts → the service's log → adopt, wait, or hold."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection

from batchgen import clock
from batchgen.jobs import State
from batchgen.jobtable import leases, reconciliation
from batchgen.jobtable.reconciliation import Doubt
from batchgen.jobtable.transition import next_due
from batchgen.pacing import backoff
from batchgen.service.base import LoggedRequest, LogPage
from batchgen.stage import LEASE, Stage

LOOK_FIRST_SECONDS = 3.0
LOOK_LONGEST_SECONDS = 120.0
DOUBTS_AT_ONCE = 500
CLOCK_SKEW = timedelta(minutes=5)  # between this machine and the service


class Reconciler(Stage):
    """Finds out what became of requests whose answer was lost. One window of the log serves many attempts."""

    async def tick(self, now: datetime) -> datetime | None:
        if self.room <= 0:
            return None
        doubts, next_at = await self.work.database.write(self.claim, now)
        if doubts:
            self.begin(self.look(doubts))
        return next_at

    def claim(self, connection: Connection, now: datetime) -> tuple[list[Doubt], datetime | None]:
        work = self.work
        leases.recover_expired(connection, work.batch_id, now)
        found = reconciliation.claim_doubts(connection, work.batch_id, work.run, now, now + LEASE, DOUBTS_AT_ONCE)
        waits = [next_due(connection, work.batch_id, state) for state in (State.UNCONFIRMED, State.SUBMITTING)]
        return found, min((moment for moment in waits if moment), default=None)

    async def look(self, doubts: Sequence[Doubt]) -> None:
        """Read the log once for all these attempts, and decide each."""
        work, asked = self.work, clock.utcnow()
        page: object = None
        if work.service.has_log:
            start = min(doubt.sent_at for doubt in doubts) - CLOCK_SKEW
            page = await work.service.log(start, asked + CLOCK_SKEW)
        found = page.rows if isinstance(page, LogPage) else ()
        # A request may be logged more than once on its way; a row that names a generation is the one that counts.
        rows = {row.client_request_id: row for row in sorted(found, key=lambda row: row.generation_id is not None)}
        # Only a log that was read to its end can show that something is not in it, and only as it was then: this
        # machine may have slept while the answer lay in its buffers.
        absent_until = asked if isinstance(page, LogPage) and page.complete else None
        await work.database.write(self.decide, doubts, rows, absent_until, clock.utcnow())

    def decide(
        self,
        connection: Connection,
        doubts: Sequence[Doubt],
        rows: dict[str, LoggedRequest],
        absent_until: datetime | None,
        now: datetime,
    ) -> None:
        limits, has_log = self.work.limits, self.work.service.has_log
        patience = timedelta(minutes=limits.unconfirmed_minutes)
        for doubt in doubts:
            row = rows.get(doubt.client_request_id)
            if row and row.generation_id:
                deadline = now + timedelta(minutes=limits.deadline_minutes)
                reconciliation.adopted(connection, doubt, row.generation_id, row.cost_usd, row.created, now, deadline)
            elif row and not row.succeeded:
                reconciliation.refuted(connection, doubt, "the service's log shows that it failed there", now)
            elif not has_log:
                reconciliation.looked(connection, doubt, None)
            elif absent_until is None or absent_until - doubt.sent_at < patience:
                pause = backoff(doubt.strikes + 1, LOOK_FIRST_SECONDS, LOOK_LONGEST_SECONDS)
                reconciliation.looked(connection, doubt, now + pause)
            elif limits.on_unconfirmed == "resubmit" and not row:
                told = f"not in the service's log after {limits.unconfirmed_minutes:g} minutes; sent again as ordered"
                reconciliation.refuted(connection, doubt, told, now)
            else:
                reconciliation.looked(connection, doubt, None)
