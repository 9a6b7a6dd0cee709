"""The reconciler: unconfirmed attempts → the service's own memory → adopt, send again, wait, or hold for a person.

The same memory shows, before a run sends anything, what was paid for by a job table that is lost: `RepeatCheck`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from http import HTTPStatus

from sqlalchemy import Connection

from batchgen import clock
from batchgen.catalogue.wording import plural
from batchgen.jobs import ErrorClass, Job, State
from batchgen.jobtable import leases, reconciliation, repeats, settings, submission, takeover
from batchgen.jobtable.enrolled import ids_of
from batchgen.jobtable.repeats import Repeat
from batchgen.jobtable.sync import SyncResult
from batchgen.jobtable.transition import claim_due, next_due
from batchgen.limits.backoff import backoff
from batchgen.limits.steering import read_enrolled, read_steering
from batchgen.services.base import Adoption, History, PastGeneration
from batchgen.services.outcomes import Absent, Adopted, Ambiguous, Failed, FindOutcome, Trouble, Unavailable
from batchgen.services.registry import plugin
from batchgen.stage import LEASE, RunContext, RunSpec, Stage

RETRY_FIRST_SECONDS = 3.0
RETRY_LONGEST_SECONDS = 120.0
"""Pauses between two searches for one attempt: they double from the first to the longest."""
UNCONFIRMED_AT_ONCE = 500
"""Attempts claimed at once. One search of the service's memory serves all of about the same time."""
UNREAD_RETRIES = 30
"""How often a service is asked that does not answer, or not to the end: about an hour. Then a person decides."""
HISTORY_TRIES = 5
"""How often a log is asked that does not answer, before the run begins without it: for about a minute and a half."""
REFUSED = (400, 401, 403, 404, 405, 501)
"""Answers of a service that shows this key no log: asked again, it says the same."""
SAME_FAILURES = 3
"""A job that failed so often in the same way, while other jobs were accepted, is itself at fault."""
OTHER_KEY = (
    "it was sent with another key, and what this key's account shows says nothing about it. Run with that key again,"
    " or look for it on the service's site"
)
"""Services show the requests of the asking key only: taken for absent, it could be bought twice."""
WINDOW = timedelta(minutes=90)
"""Attempts sent within it are searched for together."""


@dataclass(frozen=True, slots=True)
class Search:
    """One search of the service's memory: what it says, by client request id."""

    began_at: datetime
    """When the service was asked. Its answer is of this moment, however late it is read: the machine may have slept."""
    findings: Mapping[str, FindOutcome] = field(default_factory=dict)
    supported: bool = True
    """Whether the service can say anything at all."""
    retry_after: timedelta | None = None


class Reconciler(Stage):
    """Finds out what became of requests whose answer was lost. It never sends one again without an order."""

    async def tick(self, now: datetime) -> datetime | None:
        if self.capacity <= 0:
            return None
        jobs, next_at = await self.context.database.write(self.claim, now)
        if jobs:
            self.begin(self.reconcile(jobs))
        return next_at

    def claim(self, connection: Connection, now: datetime) -> tuple[list[Job], datetime | None]:
        """The unconfirmed jobs whose next search is due, and when the next one is."""
        batch_id, run_id = self.context.batch_id, self.context.run_id
        leases.recover_expired(connection, batch_id, now)
        origin, until = self.context.service.origin, now + LEASE
        jobs = claim_due(connection, batch_id, State.UNCONFIRMED, run_id, now, until, UNCONFIRMED_AT_ONCE, origin)
        due = [next_due(connection, batch_id, state, origin) for state in (State.UNCONFIRMED, State.SUBMITTING)]
        return jobs, min((moment for moment in due if moment), default=None)

    async def reconcile(self, jobs: Sequence[Job]) -> None:
        """Search once for all attempts of about the same time, and decide each of them."""
        for window in windows(jobs):
            search = await self.search(window)
            await self.context.database.write(self.decide_all, window, search, clock.utcnow())

    async def search(self, jobs: Sequence[Job]) -> Search:
        """Ask the service what became of these attempts, which are sorted by time."""
        context, began_at = self.context, clock.utcnow()
        adoption = context.service.features.adopt
        if adoption is Adoption.NONE:
            return Search(began_at, supported=False)
        compares_bodies = adoption is Adoption.EXACT_BODY
        searched = [job for job in jobs if not (compares_bodies and self.is_foreign(job))]
        if not searched:
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
        is_foreign = self.is_foreign(job)
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

    def is_foreign(self, job: Job) -> bool:
        """Whether it was sent with another key. By its body, a request is known to the account that sent it alone."""
        return job.attempt.account != self.context.service.account

    def refute(self, connection: Connection, job: Job, proof: str, now: datetime) -> None:
        """The service took nothing: send it again, unless it alone fails time and again."""
        failures = reconciliation.failures_like(connection, job) + 1
        if failures >= SAME_FAILURES and reconciliation.others_succeed(connection, job):
            reconciliation.failed(connection, job, f"failed {failures} times at the service: {job.error}", now)
        else:
            reconciliation.refuted(connection, job, proof, now)

    def wait_or_hold(self, connection: Connection, job: Job, search: Search, is_absent: bool, now: datetime) -> None:
        """Not known yet: search again after a growing pause. After all patience, do what the manifest says."""
        limits, patience = self.context.limits, timedelta(minutes=self.context.limits.unconfirmed_minutes)
        if job.attempt.answered_at is None:  # its run may live, cut off from the job table, and still send it
            patience = max(patience, leases.ON_WIRE)
        patient = search.began_at - job.attempt.intent_at < patience
        unread = not is_absent and job.failures < UNREAD_RETRIES
        if search.supported and (patient or unread):
            pause = backoff(job.failures + 1, RETRY_FIRST_SECONDS, RETRY_LONGEST_SECONDS)
            reconciliation.postponed(connection, job, now + max(pause, search.retry_after or pause))
        elif is_absent and limits.on_unconfirmed == "resubmit":
            reason = f"unknown to the service after {limits.unconfirmed_minutes:g} minutes; sent again as ordered"
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


class RepeatCheck:
    """Looks for pending jobs that were paid for before, and does with them what a person said."""

    def __init__(self, context: RunContext, spec: RunSpec, wait: Callable[[float], Awaitable[bool]]) -> None:
        self.context = context
        self.synced = spec.synced
        self.on_changed = spec.on_changed
        """What a person said of the repeats that the first comparison shows. Nobody was asked about later ones."""
        self.handle_of = plugin(spec.batch.service).handle_of
        self.wait = wait
        """Lets the stages go on, and waits for so many seconds. Whether the run is over."""

    async def run(self) -> None:
        """Settle all repeats among the jobs of the manifest as it is enrolled now. Raises `ManifestChanged`,
        `UsageError`.

        The log may be late. Where it shows that the table has lost something, the newest of it may not be listed yet:
        the log is read again once it has had the time that a lost answer is waited for. A run that begins meanwhile, or
        after this one was stopped, waits as well: only then the comparison is recorded.
        """
        context, database = self.context, self.context.database
        context.awaits_history = True
        steering = await database.read(read_steering, context.batch_id)
        context.orphans = await database.read(ids_of, context.batch_id, read_enrolled(steering).orphans)
        since = await database.read(repeats.compared_since, self.synced, clock.utcnow())
        while await database.read(submission.any_pending, context.batch_id):
            asked_at, past = clock.utcnow(), await self.read_history(since)
            if past is None:  # What was enrolled while the log was asked for goes without it as well.
                steering = await database.read(read_steering, context.batch_id)
            newest, is_whole = await self.settle(past or ())
            if newest is None or newest + timedelta(minutes=context.limits.unconfirmed_minutes) <= asked_at:
                if past is not None:
                    await database.write(self.record, steering.manifest, asked_at if is_whole else None)
                break
            if past is None or await self.is_over_after(newest):
                break
            since = newest - repeats.CLOCK_SKEW
        self.synced = SyncResult(context.batch_id)  # What a later enrolment brings, its own sync has marked.
        self.on_changed = "refuse"
        context.compared, context.awaits_history = steering.manifest, False
        if not context.awaits_prices:
            context.hold_back()
        await self.wait(0)

    def record(self, connection: Connection, manifest: int, compared_at: datetime | None) -> None:
        """The pending jobs were compared, unless more have been enrolled meanwhile; None: some were left."""
        if compared_at is None or read_steering(connection, self.context.batch_id).manifest == manifest:
            repeats.record_comparison(connection, self.context.batch_id, compared_at)

    async def is_over_after(self, newest: datetime) -> bool:
        """Wait until the log shows everything up to this moment. Whether the run is over before."""
        context = self.context
        until = newest + timedelta(minutes=context.limits.unconfirmed_minutes)
        context.hold_back("the service's log may not show yet all that was paid for", until)
        return await self.wait(max(0.0, (until - clock.utcnow()).total_seconds()))

    async def read_history(self, since: datetime) -> Sequence[PastGeneration] | None:
        """The generations that the service remembers. A log that does not answer is asked again for a while; then the
        run goes on without it, and warns."""
        context, failures = self.context, 0
        while (answer := await context.service.history(since)) is not None:
            if isinstance(answer, History):
                context.contact.answered()
                if answer.since > since:
                    context.warn(f"the service's log was compared only since {answer.since:%Y-%m-%d %H:%M} UTC")
                context.hold_back()
                return answer.generations
            if answer.http_status is None:
                context.contact.silent(answer.reason, clock.utcnow())
            else:
                context.contact.answered()
            failures += 1
            is_refused = answer.http_status in REFUSED
            reason = f"the service's log, which shows what was paid for before, does not answer: {answer.reason}"
            context.hold_back(reason)
            pause = backoff(failures, RETRY_FIRST_SECONDS, RETRY_LONGEST_SECONDS)
            is_over = is_refused or context.blocked or failures > HISTORY_TRIES
            if is_over or await self.wait(pause.total_seconds()):
                context.uncompared = answer.reason
                context.warn(f"the service's log could not be compared with the jobs: {answer.reason}")
                break
        context.hold_back()
        return None

    async def settle(self, past: Sequence[PastGeneration]) -> tuple[datetime | None, bool]:
        """Do with the repeats that may be sent what a person said.

        Returns when the newest was bought that only the log knew, and whether all repeats are settled.
        """
        context, service, now = self.context, self.context.service, clock.utcnow()
        where = (context.batch_id, service.name, context.folder, context.orphans)
        search = repeats.RepeatSearch(*where, past, context.terms.selected)
        comparison = await context.database.read(repeats.compare, search)
        matches: Sequence[Repeat] = comparison.repeats
        if self.on_changed == "keep":
            matches = await asyncio.to_thread(takeover.measured, matches, context.folder)
        confirmed = await asyncio.gather(*map(self.confirm, matches))
        matches = [repeat for repeat in confirmed if repeat]
        deadline = context.limits.deadline_at(now)
        sender = (context.run_id, service.name, service.account, service.origin)
        adopter = takeover.Adopter(*sender, self.handle_of, now, deadline)
        if matches:
            said = takeover.said_of(matches, self.on_changed, self.synced.redone)
            await context.database.write(takeover.settle, matches, context.folder, adopter, said)
        if matches and self.on_changed == "keep":
            context.warn(
                f"{plural(len(matches), 'job')} paid for before, or with a video already, taken over and not sent"
            )
        if self.on_changed == "redo":  # What the log shows later is a new question.
            self.on_changed = "refuse"
        taken_over_at = await context.database.read(repeats.newest_from_log, context.batch_id)
        return max(filter(None, (taken_over_at, comparison.newest_at)), default=None), not comparison.left

    async def confirm(self, repeat: Repeat) -> Repeat | None:
        """The repeat; None where the log calls its create request failed, and the id leads to no generation.

        A file at its output is taken for the video only if the service has none: otherwise the service's is.
        """
        past = repeat.generation
        if past is None or (past.is_certain and not repeat.file):
            return repeat
        outcome = await self.context.service.fetch(self.handle_of(past.generation_id, repeat.job.endpoint))
        is_gone = isinstance(outcome, Unavailable) and outcome.http_status == HTTPStatus.NOT_FOUND
        is_expired = isinstance(outcome, Failed) and outcome.kind is ErrorClass.EXPIRED
        if is_gone and not past.is_certain:
            return None
        return repeat if is_gone or is_expired else replace(repeat, file=None)
