"""The poller: due generations → fetch → store the answer and when to poll again."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy import Connection

from batchgen import clock
from batchgen.context import RunContext
from batchgen.jobs import ChargeSource, ErrorClass, Job, State, TimingKind
from batchgen.jobtable import polling, timings
from batchgen.jobtable.kinds import LimitKind
from batchgen.jobtable.timings import Timing
from batchgen.jobtable.transition import claim_due, next_due
from batchgen.limits import adaptive, rate
from batchgen.limits.adaptive import FEWEST_TO_CORRECT, MINUTE
from batchgen.limits.generation_times import SHORTEST_SECONDS
from batchgen.limits.rate import LimitKey, backoff
from batchgen.services.outcomes import Failed, FetchOutcome, Finished, Throttled, Trouble, Unavailable, Working
from batchgen.stage import Stage

POLLS_WITHOUT_FILE = 5  # "completed" without a file so often in a row is final
RETRY_FIRST_SECONDS = 2.0  # after "completed" without a file
RETRY_SHARE = 0.02  # of a generation's expected time or age: the pause after a poll without an answer
RETRY_LONGEST_SECONDS = 120.0  # between two polls of a job while the service answers nobody
MEDIANS_SECONDS = 60.0  # for the service's generation times; a plug-in has closer bounds of its own
FORGOTTEN_AFTER = timedelta(hours=24)  # of answers that the service does not know a generation, or of unknown words
FORGOTTEN_POLLS = 3  # such answers in a row, besides: one may be an accident of the moment
FORGOTTEN_RETRY_SECONDS = 2.0  # between the first two of them, once the time is over
STALLED_AFTER = timedelta(days=7)  # past its deadline: a generation that is called at work so long has no end
EARLIEST_END = 0.75  # of the age at which an end was seen, however long before the last poll was
UNANSWERED_MAX = 3  # polls in a row before the one that saw an end: after more, nobody knows when it was


def ended_after(before: float, age: float) -> float:
    """The time in seconds to learn from a generation that was at work at age `before` and had ended at `age`."""
    return (max(before, age * EARLIEST_END) + age) / 2


class Poller(Stage):
    """Follows every accepted generation to its end. A poll that fails says nothing about the job."""

    def __init__(self, context: RunContext, at_once: int) -> None:
        super().__init__(context, at_once)
        self.key = LimitKey(context.service.name, LimitKind.POLLS)
        self.answered_at: deque[datetime] = deque()
        """When the polls of this run were answered, in the last minute."""
        self.backing_off = self.rate_limited = False
        self.failing_since: datetime | None = None
        """The first poll without an answer since the last one with an answer, of whatever job."""

    def claim(self, connection: Connection, now: datetime, capacity: int) -> tuple[list[Job], datetime | None]:
        """Lease due generations, as many as the rate of polls allows."""
        context = self.context
        due = next_due(connection, context.batch_id, State.GENERATING, context.service.origin)
        if due is None or due > now:
            return [], due
        per_minute = context.limits_in_force.polls_per_minute
        allowance = rate.allowance(connection, self.key, per_minute, capacity, now)
        number = allowance.number
        self.backing_off = allowance.backing_off
        self.rate_limited = allowance.learned and number < capacity
        if allowance.backing_off and number:
            number = 1 - len(self.tasks)
        if number <= 0:
            return [], None if allowance.number else allowance.next_at
        jobs = claim_due(connection, self.claim_of(now, number), State.GENERATING, context.service.origin)
        rate.spend(connection, self.key, per_minute, len(jobs), now)
        due = next_due(connection, context.batch_id, State.GENERATING, context.service.origin)
        return jobs, max(due, allowance.next_at) if due and allowance.next_at else due

    async def work(self, job: Job) -> bool:
        """Fetch one generation and write the answer down. Returns whether the job may have changed its state."""
        outcome = await self.context.fetch(job)
        await self.record(job, outcome)
        return isinstance(outcome, Finished | Failed)

    async def record(self, job: Job, outcome: FetchOutcome) -> None:
        """Write the answer to a poll down, and what follows from it for the next polls."""
        context, run_id, now = self.context, self.context.run_id, clock.utcnow()
        write = context.database.write
        self.log_answer("poll", job, outcome)
        self.note_contact(outcome, now)
        pause = self.retry_pause(job, now)
        if end := self.given_up(job, outcome, now):
            context.times.forget(job)
            await write(polling.failed, job, run_id, end, now, polled_at=job.attempt.polled_at)
            return
        match outcome:
            case Working(word, is_known):
                remark = None if is_known else f"the service says {word!r}, which batchgen does not know"
                await write(polling.working, job, run_id, word, now, self.next_poll_at(job, now), remark)
                await self.learn_from_other_runs(job, now)
            case Finished(files=()):
                await write(self.finished_without_file, job, outcome, now)
            case Finished():
                timing = await write(self.complete, job, outcome, now)
                if timing and context.times.learn(job, timing):  # polls of this kind were planned too late for it
                    await self.bring_forward(job.model, now, job.kind)
            case Failed():
                context.times.forget(job)
                await write(polling.failed, job, run_id, outcome, now)
            case Throttled():
                await write(self.throttled, job, outcome, now, now + pause)
            case Unavailable():
                if outcome.trouble is Trouble.AUTH:
                    context.lock_out(outcome)
                wait = self.wait_after(job, outcome, pause, now)
                await write(polling.unanswered, job, run_id, outcome.reason, now + wait)
        if not isinstance(outcome, Throttled | Unavailable):
            await self.count_answer(now)

    def note_contact(self, outcome: FetchOutcome, now: datetime) -> None:
        """Note whether the service answered at all."""
        if isinstance(outcome, Unavailable) and outcome.http_status is None and not outcome.trouble:
            self.context.contact.silent(outcome.reason, now)
        else:
            self.context.contact.answered()

    def finished_without_file(self, connection: Connection, job: Job, outcome: Finished, now: datetime) -> None:
        """Poll again soon, because the file may be named a moment later. Several times in a row are final."""
        word, run_id = outcome.word, self.context.run_id
        polls = job.failures + 1 if job.attempt.remote_status == word else 1  # in a row that said so
        if polls < POLLS_WITHOUT_FILE:
            wait = backoff(polls, RETRY_FIRST_SECONDS, RETRY_LONGEST_SECONDS)
            polling.without_file(connection, job, run_id, word, polls, now + wait)
        else:
            message = f"the service says {word!r} and names no file"
            failed = Failed(message, word, ErrorClass.NO_FILE, cost_usd=outcome.cost_usd)
            polling.failed(connection, job, run_id, failed, now)

    def retry_pause(self, job: Job, now: datetime) -> timedelta:
        """The least time between a poll that brought nothing and the next one of the same generation."""
        usual = max(self.context.times.times(*job.kind).median, self.age(job, now))
        return timedelta(seconds=max(RETRY_SHARE * usual, SHORTEST_SECONDS))

    def wait_after(self, job: Job, outcome: Unavailable, pause: timedelta, now: datetime) -> timedelta:
        """How long a job waits for its next poll after one that failed: at least for the usual `pause`."""
        self.failing_since = self.failing_since or now
        # While every poll fails, the pause grows with the time since then, so it doubles from poll to poll.
        outage = min(now - self.failing_since, timedelta(seconds=RETRY_LONGEST_SECONDS))
        wait = max(pause, outage, outcome.retry_after or timedelta(0))
        if self.is_forgotten(job, outcome, now):
            wait = backoff(job.failures + 1, FORGOTTEN_RETRY_SECONDS, wait.total_seconds())
        return wait

    async def count_answer(self, now: datetime) -> None:
        """The service has answered a poll: its outage is over, and its limit may be higher than was learned."""
        self.failing_since = None
        self.answered_at.append(now)
        while self.answered_at[0] < now - MINUTE:
            self.answered_at.popleft()
        if self.backing_off or self.rate_limited:
            await self.context.database.write(self.answered, now)

    def given_up(self, job: Job, outcome: FetchOutcome, now: datetime) -> Failed | None:
        """The end of a generation of which the service has said nothing else for longer than one can take; or None."""
        if isinstance(outcome, Working):
            late = now - job.attempt.deadline_at
            if late < (STALLED_AFTER if outcome.is_known else FORGOTTEN_AFTER):
                return None
            reason = f"the service still says {outcome.word!r}, {late.days} d {late.seconds // 3600} h too late"
            return Failed(reason, outcome.word, cost_usd=None)
        if not self.is_forgotten(job, outcome, now) or job.failures + 1 < FORGOTTEN_POLLS:
            return None
        assert isinstance(outcome, Unavailable)
        since = (job.attempt.polled_at or job.attempt.answered_at or now).astimezone()
        reason = f"the service does not know the generation any more, since {since:%Y-%m-%d %H:%M}: {outcome.reason}"
        return Failed(reason, "forgotten", ErrorClass.EXPIRED, cost_usd=None)

    def is_forgotten(self, job: Job, outcome: FetchOutcome, now: datetime) -> bool:
        """Whether the service has not known a generation for so long that it is no replica that lags behind."""
        known_at = job.attempt.polled_at or job.attempt.answered_at or now
        patience = max(FORGOTTEN_AFTER, self.context.times.p99(*job.kind))
        is_unknown = isinstance(outcome, Unavailable) and outcome.is_unknown_id and self.context.owns(job)
        return is_unknown and now - known_at >= patience

    def throttled(
        self, connection: Connection, job: Job, outcome: Throttled, now: datetime, retry_at: datetime
    ) -> None:
        """Pause all polls, and learn their rate from the refusal. Submits go on."""
        reason = f"the service asks to poll less often ({outcome.reason})"
        row = rate.row_of(connection, self.key)
        ends = rate.pause(connection, self.key, reason, now, outcome.retry_after)
        polling.unanswered(connection, job, self.context.run_id, outcome.reason, max(ends, retry_at))
        if not row.failures:  # one that follows in the backoff says only that the backoff was too short
            since = row.paused_until or now - MINUTE
            learned = rate.to_learned(row)
            answered_at = [at for at in self.answered_at if at >= since]
            measured = adaptive.measured_rate(learned, answered_at, ends, FEWEST_TO_CORRECT)
            rate.store(connection, self.key, adaptive.decrease(learned, measured), now)
        self.backing_off = True

    def answered(self, connection: Connection, now: datetime) -> None:
        """Polls are answered again: reset the backoff, and in time poll a little faster."""
        if self.backing_off:
            rate.reset_backoff(connection, self.key)
        if self.rate_limited:
            rate.store(connection, self.key, adaptive.increase(rate.learned(connection, self.key)), now)

    def complete(self, connection: Connection, job: Job, outcome: Finished, now: datetime) -> Timing | None:
        """Store that the files exist, and learn its generation time: it ended between the poll before and this one."""
        features = self.context.service.features
        source, collect_by = ChargeSource.POLL, None
        if features.charges is ChargeSource.ESTIMATE and outcome.cost_usd is None and job.attempt.cost_usd is None:
            outcome, source = replace(outcome, cost_usd=job.attempt.estimated_usd), ChargeSource.ESTIMATE
        if features.keeps_results_for:
            collect_by = now + features.keeps_results_for
        if not polling.finished(connection, job, self.context.run_id, outcome, now, collect_by, source):
            return None
        age = max(self.age(job, now), 0.001)
        before = self.age(job, job.attempt.polled_at or job.attempt.answered_at or now)
        if before < age * EARLIEST_END and self.has_missed(job):
            self.context.times.forget(job)
            return None
        return timings.learn(connection, job.service, job.kind, ended_after(before, age))

    def has_missed(self, job: Job) -> bool:
        """Whether polls that were planned since the last answer were not made, or not answered: the run began later, or
        stood still, or the service was away. What was missed may have been the end."""
        awake_since = self.context.awake_since
        last_answer = job.attempt.polled_at or job.attempt.answered_at
        stood_still = awake_since is not None and last_answer is not None and last_answer < awake_since
        return stood_still or job.failures > UNANSWERED_MAX

    async def learn_from_other_runs(self, job: Job, now: datetime) -> None:
        """Take over the times that the table has, while this run knows few. Called once a poll is planned and written:
        what is learned before that is read here, and what after that brings the poll forward there."""
        times = self.context.times
        if times.knows_few(job.kind):
            stored = await self.context.database.read(timings.load, job.service)
            if times.take_in(job.kind, stored.get(job.kind, Timing())):
                await self.bring_forward(job.model, now, job.kind)

    async def learn_medians(self) -> None:
        """Take over the service's median generation times, and poll earlier what they show to be planned too late."""
        with suppress(TimeoutError):
            async with asyncio.timeout(MEDIANS_SECONDS):
                medians = await self.context.service.typical_seconds(self.context.spec.models)
            self.context.times.take_over(medians)
            for model in medians:
                await self.bring_forward(model, clock.utcnow())
            self.wakeup.set()

    async def bring_forward(self, model: str, now: datetime, kind: TimingKind | None = None) -> None:
        """Poll earlier what was planned too late for what is known now: of one kind, or of all kinds of a model."""
        context, times = self.context, self.context.times
        earlier: dict[int, tuple[datetime, datetime]] = {}
        # Through the writer: what was planned with less knowledge has been written before this.
        for other, planned_at in await context.database.write(polling.planned, context.batch_id, model, now):
            accepted_at, deadline_at = other.attempt.answered_at, other.attempt.deadline_at
            if kind not in (None, other.kind) or not accepted_at or deadline_at <= now:
                continue
            age = times.next_age(other, self.age(other, other.attempt.polled_at or accepted_at))
            best = max(accepted_at + timedelta(seconds=age), now)
            if best < planned_at:
                earlier[other.id] = planned_at, best
        await context.database.write(polling.bring_forward, earlier)

    @staticmethod
    def age(job: Job, at: datetime) -> float:
        """The seconds from the acceptance of a generation to `at`."""
        return (at - (job.attempt.answered_at or at)).total_seconds()

    def next_poll_at(self, job: Job, now: datetime) -> datetime:
        return self.context.times.next_poll_at(job, job.attempt.answered_at or now, job.attempt.deadline_at, now)
