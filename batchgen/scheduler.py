"""The scheduler: claim within the limits → commit the intent → submit → store the handle."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from weakref import WeakSet

from sqlalchemy import Connection

from batchgen import clock
from batchgen.context import COMPARING, RunContext
from batchgen.errors import ManifestChanged, os_reason
from batchgen.files.input_file import InputFault
from batchgen.files.local_files import read_files
from batchgen.jobs import ErrorClass, Job
from batchgen.jobtable import commands, polling, repeats, submission, takeover
from batchgen.jobtable.fingerprint import fingerprint_as_read
from batchgen.jobtable.repeats import RepeatSearch
from batchgen.jobtable.submission import Candidate
from batchgen.limits import budget, rate
from batchgen.limits.admission import Admission, Admitted, Capacity
from batchgen.limits.budget import Choice
from batchgen.services.base import Submission
from batchgen.services.outcomes import Accepted, Blocked, NotSent, Rejected, SubmitOutcome, Throttled, Trouble, Unknown
from batchgen.services.send_time import sending_until
from batchgen.stage import LEASE, Stage

FIRST_LOOK_UP = timedelta(seconds=2)  # at the service, after an answer was lost
UNPLANNED_POLL = timedelta(minutes=1)  # after an acceptance whose run was killed before it planned the first poll
NOT_ASKED_FOR = "the manifest does not ask for it any more"
LONG_PAUSE = timedelta(minutes=1)  # worth telling a person about
FAILURES_TO_PROBE = 3  # creates in a row without a clear answer open the circuit breaker: then one at a time


class Scheduler(Stage):
    """Submits pending jobs, at most as fast and as many at once as the limits allow."""

    def __init__(self, context: RunContext, at_once: int) -> None:
        super().__init__(context, at_once)
        service = context.service
        self.admission = Admission(service, context.limits)
        self.failures = 0
        self.unsent = 0
        """How often in a row nothing left this machine."""
        self.retry_at: datetime | None = None
        """When it is tried again."""
        self.not_found: dict[str, Blocked] = {}
        """Models for which the address answers "not found", while it has never accepted anything."""
        self.recorded: WeakSet[asyncio.Task[Any] | None] = WeakSet()
        """Tasks whose acceptance is in the table: nobody has to wait for them."""
        self.on_unconfirmed: Callable[[], None] = lambda: None

    @property
    def unrecorded(self) -> set[asyncio.Task[Any]]:
        """Tasks whose create may be accepted, which the table does not say yet."""
        return self.tasks - set(self.recorded)

    @property
    def capacity(self) -> int:
        context = self.context
        if context.blocked or context.disk_fault or context.awaits_prices or context.awaits_history:
            return 0
        if context.credit_wait.refusal or context.refused:
            return 0
        probing = self.failures >= FAILURES_TO_PROBE or context.credit_wait.refusals
        return min(super().capacity, 1 - len(self.tasks)) if probing else super().capacity

    async def tick(self, now: datetime) -> datetime | None:
        try:
            return await super().tick(now)
        except ManifestChanged as error:
            self.context.refuse(error)
            return None

    def claim(
        self, connection: Connection, now: datetime, most: int
    ) -> tuple[list[tuple[Job, Admitted]], datetime | None]:
        """Claim at most `most` jobs, as rates, generations in flight and budget allow, and commit their intents.

        Also returns when more may be claimed.
        """
        context = self.context
        # Another program may have locked the table meanwhile, and an intent must not be older than its request.
        now = max(now, clock.utcnow())
        # The settings are read in this transaction, so that two runs never claim by two different values.
        context.heed(connection)
        if not self.may_claim(connection):
            return [], None
        if self.retry_at and now < self.retry_at:
            return [], self.retry_at
        self.admission.follow(context.limits_in_force)
        capacity = self.admission.capacity(connection, context.spec.models, now, most)
        if not capacity.number:
            if capacity.pause_reason and capacity.next_at and capacity.next_at - now >= LONG_PAUSE:
                context.wait_to_submit(capacity.pause_reason, capacity.next_at)
            return [], capacity.next_at
        choice = self.choose(connection, now, capacity)
        if self.not_found and not choice.chosen and not self.tasks:
            # No other model shows that this is the service.
            context.block(next(iter(self.not_found.values())))
            return [], None
        hold = choice.hold if not choice.chosen else None
        context.wait_to_submit(budget.HOLD_REASONS[hold] if hold else "")
        context.hold = hold
        jobs = self.intend(connection, now, list(capacity.fitting(choice.chosen)))
        admitted = [(job, Admitted(now, job.model in capacity.rate_limited)) for job in jobs]
        return admitted, capacity.next_at if len(choice.chosen) == capacity.number else None

    def may_claim(self, connection: Connection) -> bool:
        """Whether jobs wait that a person, or the comparison with the service's log, does not hold back."""
        context = self.context
        if context.steering.pause:
            return False
        if context.steering.manifest != context.compared:  # enrolled again since: the runner has that compared first
            context.wait_to_submit(COMPARING)
            return False
        if not self.not_found and not submission.any_pending(connection, context.batch_id):
            context.wait_to_submit()
            return False
        return True

    def choose(self, connection: Connection, now: datetime, capacity: Capacity) -> Choice:
        """Choose jobs of models that have capacity, and that the service is not known to lack.

        Those are cancelled that a lost answer, a refusal or a person has made pending again, although the manifest,
        edited since they were sent, asks for their request no more.
        """
        if self.not_found and self.has_accepted(connection):
            self.not_found.clear()
        barred = {*capacity.full_models, *self.not_found}
        while True:
            choice = self.context.choose(connection, now, capacity.number, barred)
            left = [candidate.id for candidate in choice.chosen if candidate.id in self.context.orphans]
            if not left:
                return choice
            commands.cancel_pending(connection, left, NOT_ASKED_FOR, now)

    def intend(self, connection: Connection, now: datetime, chosen: Sequence[Candidate]) -> list[Job]:
        """Commit to these jobs, and take them from the rates. Raises `ManifestChanged`, `StorageError`."""
        context = self.context
        self.refuse_repeats(connection, [candidate.id for candidate in chosen])
        context.database.check_in_place()
        # An attempt whose answer is lost keeps its place in flight only for as long as such a generation may run.
        timed = [replace(candidate, deadline_at=now + context.times.p99(*candidate.kind)) for candidate in chosen]
        jobs = submission.intend(connection, context.batch_id, context.sender, now, now + LEASE, timed)
        self.admission.spend(connection, [job.model for job in jobs], now)
        return jobs

    def refuse_repeats(self, connection: Connection, ids: Sequence[int]) -> None:
        """Raise `ManifestChanged` for jobs that were paid for since this run began: by a run of another batch, or as a
        job of this batch that the manifest, edited meanwhile, names no more."""
        context = self.context
        search = RepeatSearch(context.batch_id, context.service.name, context.spec.folder, context.orphans)
        if bought := repeats.paid_meanwhile(connection, search, ids):
            raise ManifestChanged(takeover.refusal(connection, search.service, bought))

    def has_accepted(self, connection: Connection) -> bool:
        """Whether this address has ever accepted a request: then it is the service."""
        return submission.has_accepted(connection, self.context.service.name, self.context.service.origin)

    async def work(self, item: tuple[Job, Admitted]) -> None:
        """Send one create request, from its committed intent to its recorded outcome."""
        job, admitted = item
        write = self.context.database.write
        try:
            files, digests = await read_files(self.context.spec.folder, job)
        except asyncio.CancelledError:  # It was certainly not sent, so nobody has to search for it.
            unsent = NotSent("the run was stopped while it read the job's files")
            await write(submission.returned, job, unsent, clock.utcnow())
            raise
        except OSError as error:  # The job is not to blame: this machine has no more descriptors.
            unread = NotSent(f"local files cannot be read: {os_reason(error)}")
            self.wait_for_machine(unread.reason, clock.utcnow())
            await write(submission.returned, job, unread, clock.utcnow())
            return
        except InputFault as error:
            if not await self.leave_to_others(job, str(error)):
                missing = Rejected(f"{error}; nothing was sent", kind=ErrorClass.INPUT_FILE)
                await write(submission.rejected, job, missing, clock.utcnow())
            return
        if digests and (now_fingerprint := fingerprint_as_read(job, digests)) != job.fingerprint:
            if not await self.leave_to_others(job, "a local file differs from the one that was enrolled"):
                await write(submission.outdated, job, now_fingerprint, clock.utcnow())
            return
        request = Submission(job.model, job.endpoint, job.request, job.attempt.client_request_id, files)
        outcome = await self.send(job, request)
        await self.record(job, admitted, outcome, digests)

    async def send(self, job: Job, request: Submission) -> SubmitOutcome:
        """Send the paid request; before it, what the service has to prepare, which is stored with the attempt."""
        context, begun_at = self.context, job.attempt.intent_at
        handle = await context.service.prepare(request) if context.service.features.prepares else {}
        if not isinstance(handle, Mapping):
            return handle
        if handle:  # It may have taken longer than a lease.
            begun_at = clock.utcnow()
            leased = (context.run_id, handle, begun_at, begun_at + LEASE)
            if not await context.database.write(submission.prepared, job, *leased):
                return NotSent("another run has taken the job over; nothing was sent")
        # Later, another run may have taken the job over and found out that it was not sent.
        with sending_until(begun_at + LEASE):
            outcome = await context.service.submit(replace(request, handle=handle))
        # What was prepared stays in the handle: the answer adds to it.
        return replace(outcome, handle={**handle, **outcome.handle}) if isinstance(outcome, Accepted) else outcome

    async def record(self, job: Job, admitted: Admitted, outcome: SubmitOutcome, digests: str | None) -> None:
        """Write down the outcome of a create request, and slow down or stop where it says so."""
        context, now = self.context, clock.utcnow()
        write = context.database.write
        self.log_answer("create", job, outcome)
        self.count(outcome, now)
        match outcome:
            case Accepted():
                await self.accept(job, admitted, outcome, digests, now)
            case Rejected():
                await write(submission.rejected, job, outcome, now)
            case Unknown():
                await write(submission.unconfirmed, job, outcome, now, now + FIRST_LOOK_UP)
                self.on_unconfirmed()
                if self.failures >= FAILURES_TO_PROBE:
                    reason = f"{self.failures} creates in a row without a clear answer ({outcome.reason})"
                    await write(rate.pause, self.admission.service_key, reason, now)
            case NotSent():
                self.wait_for_machine(f"the service cannot be reached ({outcome.reason})", now)
                await write(submission.returned, job, outcome, now)
            case Throttled():
                await write(self.return_throttled, job, admitted, outcome, now)
            case Blocked(trouble=Trouble.ADDRESS):
                await write(self.return_not_found, job, outcome, now)
            case Blocked(trouble=Trouble.CREDITS) if context.spec.waits_for_credits:
                context.credit_wait.refused(outcome, now)
                await write(submission.returned, job, outcome, now)
            case Blocked():
                context.block(outcome)
                await write(submission.returned, job, outcome, now)

    def count(self, outcome: SubmitOutcome, now: datetime) -> None:
        """Keep count of what shows whether the service can be reached, and answers clearly."""
        if isinstance(outcome, NotSent):
            self.context.contact.silent(outcome.reason, now)
        else:
            self.context.contact.answered()
            self.unsent = 0
        self.failures = self.failures + 1 if isinstance(outcome, NotSent | Unknown) else 0

    async def accept(self, job: Job, admitted: Admitted, outcome: Accepted, digests: str | None, now: datetime) -> None:
        """Store the handle before anything else: nothing that follows from it may stand in its way."""
        context = self.context
        deadline = context.limits.deadline_at(now)
        unplanned = min(now + UNPLANNED_POLL, deadline)

        def store(connection: Connection) -> None:
            submission.accepted(connection, job, outcome, now, deadline, unplanned, digests)
            self.admission.accepted(connection, job.model, admitted, now)

        await context.database.write(store)
        self.recorded.add(asyncio.current_task())
        context.credit_wait.accepted()
        next_poll_at = context.times.next_poll_at(job, now, deadline, now)
        await context.database.write(polling.bring_forward, {job.id: (unplanned, next_poll_at)})

    def return_throttled(
        self, connection: Connection, job: Job, admitted: Admitted, outcome: Throttled, now: datetime
    ) -> None:
        """The job is pending again, and the limits learn from the refusal."""
        submission.returned(connection, job, outcome, now)
        self.admission.refused(connection, job.model, admitted, outcome, now)

    async def leave_to_others(self, job: Job, reason: str) -> bool:
        """Only a machine with the job's local files can send it: a worker leaves it alone, and it is pending again."""
        if self.context.spec.is_worker:
            if self.context.spec.selected:  # first, so that it is not claimed again
                self.context.spec.selected.drop(job.id)
            unsent = NotSent(f"{reason}; nothing was sent")
            await self.context.database.write(submission.returned, job, unsent, clock.utcnow())
        return self.context.spec.is_worker

    def return_not_found(self, connection: Connection, job: Job, outcome: Blocked, now: datetime) -> None:
        """At an address that has accepted jobs, only this one's model is missing. Another may not be the service."""
        if self.has_accepted(connection):
            submission.rejected(connection, job, Rejected(outcome.reason, outcome.http_status), now)
        else:
            self.not_found.setdefault(job.model, outcome)
            submission.returned(connection, job, outcome, now)

    def wait_for_machine(self, reason: str, now: datetime) -> None:
        """Send nothing for a backoff. What has left no byte says nothing of the account: runs elsewhere go on."""
        if self.retry_at is None or now >= self.retry_at:  # else it was begun before
            self.unsent += 1
            self.retry_at = now + rate.backoff(self.unsent, rate.PAUSE_FIRST_SECONDS, rate.PAUSE_LONGEST_SECONDS)
        self.context.wait_to_submit(reason, self.retry_at)
