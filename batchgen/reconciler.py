"""The reconciler: unconfirmed attempts → the service's own memory → adopt, send again, wait, or hold for a person."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import Connection

from batchgen import clock
from batchgen.jobs import Job, State
from batchgen.jobtable import leases, reconciliation, settings, submission
from batchgen.jobtable.transition import claim_due, next_due
from batchgen.limits.rate import backoff
from batchgen.services.base import Adoption
from batchgen.services.outcomes import Absent, Adopted, Ambiguous, FindOutcome, Trouble, Unavailable
from batchgen.stage import Stage

RETRY_FIRST_SECONDS = 3.0
RETRY_LONGEST_SECONDS = 120.0
"""Pauses between two searches for one attempt: they double from the first to the longest."""
UNCONFIRMED_AT_ONCE = 500
"""Attempts claimed at once. One search of the service's memory serves all of about the same time."""
UNREAD_RETRIES = 30
"""How often a service is asked that does not answer, or not to the end: about an hour. Then a person decides."""
SAME_FAILURES = 3
"""A job that failed so often in the same way, while other jobs were accepted, is itself at fault."""
OTHER_KEY = (
    "it was sent with another key, and what this key's account shows says nothing about it. Run with that key again,"
    " or look for it on the service's site"
)
"""Services show the requests of the asking key only: taken for absent, it could be bought twice."""
EDITED = "the manifest has another request under this id by now: a run without --changed keep sends that"
WINDOW = timedelta(minutes=90)
"""Attempts sent within it are searched for together."""


@dataclass(frozen=True, slots=True)
class Search:
    """One search of the service's memory: what it says, by client request id."""

    began_at: datetime
    """When the service was asked. Its answer is of this moment, however late it is read: the machine may have slept."""
    findings: Mapping[str, FindOutcome] = field(default_factory=dict)
    retry_after: timedelta | None = None


class Reconciler(Stage):
    """Finds out what became of requests whose answer was lost. It never sends one again without an order."""

    def claim(
        self, connection: Connection, now: datetime, _capacity: int
    ) -> tuple[Sequence[Sequence[Job]], datetime | None]:
        """The unconfirmed jobs whose next search is due, as one piece of work, and when the next one is."""
        batch_id, origin = self.context.batch_id, self.context.service.origin
        leases.recover_expired(connection, batch_id, now)
        jobs = claim_due(connection, self.claim_of(now, UNCONFIRMED_AT_ONCE), State.UNCONFIRMED, origin)
        due = [next_due(connection, batch_id, state, origin) for state in (State.UNCONFIRMED, State.SUBMITTING)]
        return [jobs] if jobs else [], min((moment for moment in due if moment), default=None)

    async def work(self, jobs: Sequence[Job]) -> None:
        """Search once for all attempts of about the same time, and decide each of them."""
        for window in windows(jobs):
            search = await self.search(window)
            await self.context.database.write(self.decide_all, window, search, clock.utcnow())

    async def search(self, jobs: Sequence[Job]) -> Search:
        """Ask the service what became of these attempts, which are sorted by time."""
        context, began_at = self.context, clock.utcnow()
        adoption = context.service.features.adopt
        compares_bodies = adoption is Adoption.EXACT_BODY
        searched = [job for job in jobs if not compares_bodies or context.owns(job)]
        if adoption is Adoption.NONE or not searched:
            return Search(began_at)
        attempts = [reconciliation.sent_attempt(job) for job in searched]
        if compares_bodies:
            attempts += await context.database.read(reconciliation.rivals, searched)
        answer = await context.service.find(attempts)
        if isinstance(answer, Mapping):
            return Search(began_at, answer)
        if isinstance(answer, Unavailable) and answer.trouble is Trouble.AUTH:
            context.lock_out(answer)
        return Search(began_at, retry_after=answer.retry_after)

    def decide_all(self, connection: Connection, jobs: Sequence[Job], search: Search, now: datetime) -> None:
        """Decide each of these jobs.

        One that was sent before this run, and is pending again, was not compared with what was paid for: where the
        table is an older copy, it may have been bought since.
        """
        context = self.context
        for job in jobs:
            self.decide(connection, job, search, now)
        earlier = [job.id for job in jobs if job.attempt.intent_at < context.began_at]
        if submission.any_pending(connection, context.batch_id, earlier):
            settings.compare_again(connection, context.batch_id, now)

    def decide(self, connection: Connection, job: Job, search: Search, now: datetime) -> None:
        """What the service says of one attempt: accepted, failed there, or not known yet."""
        finding = search.findings.get(job.attempt.client_request_id)
        self.log_answer("search", job, finding)
        is_foreign = not self.context.owns(job)  # by its body, a request is known to the account that sent it alone
        match finding:
            case _ if is_foreign and self.context.service.features.adopt is Adoption.EXACT_BODY:
                reconciliation.hold(connection, job, OTHER_KEY)
            case Adopted():
                deadline = self.context.limits.deadline_at(now)
                reconciliation.adopted(connection, job, finding, now, deadline)
            case Absent() if is_foreign:
                reconciliation.hold(connection, job, OTHER_KEY)
            case Absent(proof=proof) if proof:
                self.refute(connection, job, proof, now)
            case Ambiguous(reason):
                reconciliation.hold(connection, job, reason)
            case _:
                self.wait_or_hold(connection, job, search, finding is not None, now)

    def refute(self, connection: Connection, job: Job, proof: str, now: datetime) -> None:
        """The service took nothing: send it again, unless it alone fails time and again."""
        failures = reconciliation.failures_like(connection, job) + 1
        if failures >= SAME_FAILURES and reconciliation.others_succeed(connection, job):
            reconciliation.failed(connection, job, f"failed {failures} times at the service: {job.error}", now)
        elif job.id in self.context.edited:
            reconciliation.failed(connection, job, f"{proof}; {EDITED}", now)
        else:
            reconciliation.refuted(connection, job, proof, now)

    def wait_or_hold(self, connection: Connection, job: Job, search: Search, is_absent: bool, now: datetime) -> None:
        """Not known yet: search again after a growing pause. After all patience, do what the manifest says."""
        limits, patience = self.context.limits, timedelta(minutes=self.context.limits.unconfirmed_minutes)
        if job.attempt.answered_at is None:  # its run may live, cut off from the job table, and still send it
            patience = max(patience, leases.ON_WIRE)
        patient = search.began_at - job.attempt.intent_at < patience
        unread = not is_absent and job.failures < UNREAD_RETRIES
        if self.context.service.features.adopt is not Adoption.NONE and (patient or unread):
            pause = backoff(job.failures + 1, RETRY_FIRST_SECONDS, RETRY_LONGEST_SECONDS)
            reconciliation.postponed(connection, job, now + max(pause, search.retry_after or pause))
        elif is_absent and limits.on_unconfirmed == "resubmit" and job.id not in self.context.edited:
            reason = f"unknown to the service after {limits.unconfirmed_minutes:g} min; sent again as ordered"
            reconciliation.resubmitted(connection, job, reason, now)
        else:
            reconciliation.hold(connection, job)


def windows(jobs: Sequence[Job]) -> Iterator[list[Job]]:
    """Groups of attempts that were sent at about the same time, oldest first."""
    window: list[Job] = []
    for job in sorted(jobs, key=lambda job: job.attempt.intent_at):
        if window and job.attempt.intent_at - window[-1].attempt.intent_at > WINDOW:
            yield window
            window = []
        window.append(job)
    if window:
        yield window
