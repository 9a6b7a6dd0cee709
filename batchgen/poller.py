"""The poller: due generations → fetch → store what was said and when to look again."""

from __future__ import annotations

from collections import deque
from datetime import datetime, timedelta

from sqlalchemy import Connection

from batchgen import clock
from batchgen.jobs import Job, State
from batchgen.jobtable import polling, timings
from batchgen.jobtable.timings import Timing
from batchgen.jobtable.transition import claim_due, next_due
from batchgen.limits import adaptive, rate
from batchgen.limits.adaptive import DOUBT
from batchgen.limits.generation_times import backoff, duration_of
from batchgen.services.base import Failed, FetchOutcome, Finished, Throttled, Trouble, Unavailable, Working
from batchgen.stage import LEASE, RunContext, Stage

NO_URL_LOOKS = 5  # "completed" without a video so often in a row is an answer
ENOUGH_ANSWERS = 10  # in a minute, to tell a rate by: polls may be few because nothing is due
RETRY_FIRST_SECONDS = 2.0
RETRY_LONGEST_SECONDS = 120.0


class Poller(Stage):
    """Follows every accepted generation to its end. A poll that fails says nothing about the job."""

    def __init__(self, context: RunContext, at_once: int) -> None:
        super().__init__(context, at_once)
        self.limit = rate.polls_of(context.service.name)
        self.answers: deque[datetime] = deque()
        """When polls of this run were answered, in the last minute."""
        self.refused = self.held_back = False

    async def tick(self, now: datetime) -> datetime | None:
        if self.capacity <= 0:
            return None
        found, next_at = await self.context.database.write(self.claim, now, self.capacity)
        for job in found:
            self.begin(self.poll(job))
        return next_at

    def claim(self, connection: Connection, now: datetime, capacity: int) -> tuple[list[Job], datetime | None]:
        """Due generations, within the polls' own rate."""
        context = self.context
        due = next_due(connection, context.batch_id, State.GENERATING)
        if due is None or due > now:
            return [], due
        per_minute = context.limits.polls_per_minute
        allowance = rate.allowed(connection, self.limit, per_minute, capacity, now)
        number = allowance.number
        self.refused = allowance.refused
        self.held_back = allowance.slowed and number < capacity
        if allowance.refused and number:
            number = 1 - len(self.tasks)
        if number <= 0:
            return [], None if allowance.number else allowance.next_at
        found = claim_due(connection, context.batch_id, State.GENERATING, context.run, now, now + LEASE, number)
        rate.spend(connection, self.limit, per_minute, len(found), now)
        due = next_due(connection, context.batch_id, State.GENERATING)
        return found, max(due, allowance.next_at) if due and allowance.next_at else due

    async def poll(self, job: Job) -> bool:
        """Ask for one generation and write the answer down. Whether the job may have moved on."""
        outcome = await self.context.service.fetch(job.endpoint, job.generation_id or "", job.base_url)
        await self.record(job, outcome)
        return isinstance(outcome, Finished | Failed)

    async def record(self, job: Job, outcome: FetchOutcome) -> None:
        context, now = self.context, clock.utcnow()
        write = context.database.write
        if isinstance(outcome, Unavailable) and outcome.http_status is None:
            context.contact.silent(outcome.reason, now)
        else:
            context.contact.answered()
        pause = backoff(job.failures + 1, RETRY_FIRST_SECONDS, RETRY_LONGEST_SECONDS)
        again = isinstance(outcome, Finished) and job.remote_status == outcome.word
        looks = job.failures + 1 if again else 1  # at "finished", in a row
        match outcome:
            case Working(word):
                await write(polling.working, job, context.run, word, now, self.next_poll_at(job, now))
            case Finished(url="") if looks < NO_URL_LOOKS:
                await write(polling.videoless, job, context.run, outcome.word, looks, now + pause)
            case Finished(url=""):
                gone = Failed("no_video", f"the service says {outcome.word!r} and names no video", outcome.word)
                await write(polling.failed, job, context.run, gone, now, charged=True)
            case Finished():
                if timing := await write(self.complete, job, outcome, now):
                    context.times.learn(job.model, duration_of(job.request), timing)
            case Failed():
                await write(polling.failed, job, context.run, outcome, now)
            case Throttled():
                await write(self.throttled, job, outcome, now, now + pause)
            case Unavailable():
                if outcome.trouble is Trouble.AUTH:
                    context.lock_out(outcome)
                wait = max(pause, outcome.retry_after or timedelta(0))
                await write(polling.unanswered, job, context.run, outcome.reason, now + wait)
        if not isinstance(outcome, Throttled | Unavailable):
            self.answers.append(now)
            while self.answers[0] < now - DOUBT:
                self.answers.popleft()
            if self.refused or self.held_back:
                await write(self.answered, now)

    def throttled(
        self, connection: Connection, job: Job, outcome: Throttled, now: datetime, again_at: datetime
    ) -> None:
        """Refused: all polls wait, and come at the rate that this shows. Submits go on."""
        reason = f"the service asks to poll less often ({outcome.reason})"
        known = rate.found(connection, self.limit)
        ends = rate.pause(connection, self.limit, reason, now, outcome.retry_after)
        polling.unanswered(connection, job, self.context.run, outcome.reason, max(ends, again_at))
        if known.resumed_at is None or known.resumed_at <= now:
            since = known.resumed_at or now - DOUBT
            times = [at for at in self.answers if at >= since]
            sent = adaptive.sent_in(times, known.per_minute, ENOUGH_ANSWERS)
            rate.keep(connection, self.limit, adaptive.refused_rate(known, sent, now, ends), now)
        self.refused = True

    def answered(self, connection: Connection, now: datetime) -> None:
        """Polls are answered again: in time, try a little faster."""
        rate.relent(connection, self.limit)
        known = rate.found(connection, self.limit)
        if self.held_back and known.per_minute is not None:
            rate.keep(connection, self.limit, adaptive.tried_faster(known), now)

    def complete(self, connection: Connection, job: Job, outcome: Finished, now: datetime) -> Timing | None:
        """Store that the video exists, and learn from how long it took: it ended between the last look and this one."""
        if not polling.finished(connection, job, self.context.run, outcome, now) or not job.submitted_at:
            return None
        age = max((now - job.submitted_at).total_seconds(), 0.001)
        before = ((job.polled_at or job.submitted_at) - job.submitted_at).total_seconds()
        seconds = (max(before, age / 2) + age) / 2
        return timings.learn(connection, job.service, job.model, duration_of(job.request), seconds)

    def next_poll_at(self, job: Job, now: datetime) -> datetime:
        return self.context.times.next_poll_at(job, job.submitted_at or now, job.deadline_at or now, now)
