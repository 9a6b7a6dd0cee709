"""Before a run sends anything: the log of the service shows what was paid for, and the job table does not know."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from http import HTTPStatus

from sqlalchemy import Connection

from batchgen import clock
from batchgen.catalogue.wording import plural
from batchgen.context import RunContext
from batchgen.errors import ManifestChanged
from batchgen.jobs import ErrorClass
from batchgen.jobtable import repeats, settings, submission, takeover
from batchgen.jobtable.repeats import Repeat
from batchgen.jobtable.rows import ids_of
from batchgen.jobtable.sync import SyncResult
from batchgen.limits.rate import backoff
from batchgen.limits.steering import read_enrolled, read_steering
from batchgen.services.base import History, PastGeneration
from batchgen.services.outcomes import Failed, Unavailable
from batchgen.services.registry import plugin

RETRY_FIRST_SECONDS = 3.0
RETRY_LONGEST_SECONDS = 120.0
"""Pauses between two questions to a log that does not answer: they double from the first to the longest."""
HISTORY_TRIES = 5
"""How often a log is asked that does not answer, before the run begins without it: for about a minute and a half."""
HISTORY_PATIENCE = timedelta(minutes=30)
"""A log that has not answered for so long is not asked again: a plug-in that hangs takes an hour each time."""
REFUSED = (400, 401, 403, 404, 405, 501)
"""Answers of a service that shows this key no log: asked again, it says the same."""


class RepeatCheck:
    """Looks for pending jobs that were paid for before, and does with them what a person said."""

    def __init__(self, context: RunContext, wait: Callable[[float], Awaitable[bool]]) -> None:
        self.context = context
        self.synced = context.spec.synced
        self.on_changed = context.spec.on_changed
        """What a person said of the repeats that the first comparison shows. Nobody was asked about later ones."""
        self.handle_of = plugin(context.spec.batch.service).handle_of
        self.wait = wait
        """Lets the stages go on, and waits for so many seconds. Whether the run is over."""

    async def check(self) -> None:
        """Settle all repeats. Where a person has to decide about them, nothing more is sent."""
        try:
            await self.run()
        except ManifestChanged as error:
            self.context.refuse(error)
            await self.wait(0)

    async def check_again(self) -> None:
        """Settle those among the jobs that were enrolled since."""
        context = self.context
        if context.steering.manifest != context.compared and not context.awaits_history and not context.refused:
            await self.check()

    async def run(self) -> None:
        """Settle all repeats among the jobs as they are enrolled now. Raises `ManifestChanged`, `UsageError`.

        The log may be late. Where it shows that the table has lost something, the newest of it may not be listed yet:
        the log is read again after the time that a lost answer is waited for. Only then the comparison is recorded, so
        that a run which begins meanwhile waits as well.
        """
        context, database = self.context, self.context.database
        context.awaits_history = True
        steering = await database.read(read_steering, context.batch_id)
        enrolled = read_enrolled(steering)
        context.orphans = await database.read(ids_of, context.batch_id, enrolled.orphans)
        context.edited = await database.read(ids_of, context.batch_id, enrolled.edited)
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
            since = newest - repeats.LOG_CLOCK_SKEW
        self.synced = SyncResult(context.batch_id)  # What a later enrolment brings, its own sync has marked.
        self.on_changed = "refuse"
        context.compared, context.awaits_history = steering.manifest, False
        if not context.awaits_prices:
            context.wait_to_submit()
        await self.wait(0)

    def record(self, connection: Connection, manifest: int, compared_at: datetime | None) -> None:
        """The pending jobs were compared, unless more have been enrolled meanwhile; None: some were left."""
        if compared_at is None or read_steering(connection, self.context.batch_id).manifest == manifest:
            settings.record_comparison(connection, self.context.batch_id, compared_at)

    async def is_over_after(self, newest: datetime) -> bool:
        """Wait until the log shows everything up to this moment. Whether the run is over before."""
        context = self.context
        until = newest + timedelta(minutes=context.limits.unconfirmed_minutes)
        reason = "the service's log may not show yet all that was paid for"
        context.wait_to_submit(reason, until, "the log is read again")
        return await self.wait(max(0.0, (until - clock.utcnow()).total_seconds()))

    async def read_history(self, since: datetime) -> Sequence[PastGeneration] | None:
        """The generations that the service remembers. A log that does not answer is asked again for a while; then the
        run goes on without it, and warns."""
        context, failures, asked_at = self.context, 0, clock.utcnow()
        while (answer := await context.service.history(since)) is not None:
            if isinstance(answer, History):
                context.contact.answered()
                if answer.since > since:
                    context.warn(f"the service's log was compared only since {answer.since:%Y-%m-%d %H:%M} UTC")
                context.wait_to_submit()
                return answer.generations
            if answer.http_status is None:
                context.contact.silent(answer.reason, clock.utcnow())
            else:
                context.contact.answered()
            failures += 1
            is_refused = answer.http_status in REFUSED
            reason = f"the service's log, which shows what was paid for before, does not answer: {answer.reason}"
            context.wait_to_submit(reason)
            pause = backoff(failures, RETRY_FIRST_SECONDS, RETRY_LONGEST_SECONDS)
            has_hung = clock.utcnow() - asked_at > HISTORY_PATIENCE
            is_over = is_refused or has_hung or context.blocked or failures > HISTORY_TRIES
            if is_over or await self.wait(pause.total_seconds()):
                context.uncompared = answer.reason
                context.warn(f"the service's log could not be compared with the jobs: {answer.reason}")
                break
        context.wait_to_submit()
        return None

    async def settle(self, past: Sequence[PastGeneration]) -> tuple[datetime | None, bool]:
        """Do with the repeats that may be sent what a person said.

        Returns when the newest was bought that only the log knew, and whether all repeats are settled.
        """
        context, service, now = self.context, self.context.service, clock.utcnow()
        where = (context.batch_id, service.name, context.spec.folder, context.orphans)
        search = repeats.RepeatSearch(*where, past, context.spec.selected)
        comparison = await context.database.read(repeats.compare, search)
        matches: Sequence[Repeat] = comparison.repeats
        if self.on_changed == "keep":
            matches = await asyncio.to_thread(takeover.with_files, matches, context.spec.folder)
        confirmed = await asyncio.gather(*map(self.confirm, matches))
        matches = [repeat for repeat in confirmed if repeat]
        deadline = context.limits.deadline_at(now)
        adopter = takeover.Adopter(context.sender, self.handle_of, now, deadline)
        if matches:
            said = takeover.decision_on(matches, self.on_changed, self.synced.redone)
            if said == "refuse":  # A person who is asked whether to pay again is told how much.
                await context.has_prices.wait()
            redone = self.synced.redone
            await context.database.write(takeover.settle, matches, context.spec.folder, adopter, said, redone)
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
