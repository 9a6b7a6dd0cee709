"""The hooks of one run: follows its events, and notifies, starts commands and serves metrics. None can fail the run."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from batchgen import clock
from batchgen.advice.next_step import NextStep, next_step, stop_of
from batchgen.catalogue.amounts import amount_text
from batchgen.catalogue.wording import plural, unknown_charges
from batchgen.errors import BatchgenError
from batchgen.hooks.delivery_hook import DeliveryHook, HookResult
from batchgen.hooks.notifier import Message, Notifier
from batchgen.jobs import State
from batchgen.jobtable import leases, statistics
from batchgen.jobtable.statistics import BatchSummary
from batchgen.limits import blockers
from batchgen.runner import Runner
from batchgen.runs.ending import Ending
from batchgen.stage import wait_for

if TYPE_CHECKING:
    from batchgen.hooks.metrics import MetricsServer

LOG = logging.getLogger("batchgen.hooks")
FOLLOW_SECONDS = 1.0  # between two reads of the events: a person and a command can wait so long
IDLE = timedelta(minutes=30)  # without a change of state: several times what a generation takes
FAILURES_KEPT = 5  # for the summary; each is shown when it happens

Report = Callable[[HookResult | str], None]
"""Called with each result of the command, and with a sentence for a notification that failed."""


class RunHooks:
    """What a run calls outside. With none, `run` is that of the runner."""

    def __init__(
        self,
        notifier: Notifier,
        delivery_hook: DeliveryHook | None,
        metrics: MetricsServer | None,
        to_type: Callable[[str], str],
    ) -> None:
        self.notifier, self.delivery_hook, self.metrics = notifier, delivery_hook, metrics
        self.to_type = to_type
        """Another command on the same batch, to type."""
        self.report: Report = log_failure
        self.failures: list[str] = []
        """The first failures."""
        self.failed, self.ended_well = 0, 0
        """How many commands failed, and how many ended well."""
        self.over = asyncio.Event()
        self.following: asyncio.Task[None] | None = None
        self.notified_stops: set[str] = set()
        self.notified_idle = False
        self.has_begun = False

    @property
    def commands_left(self) -> int:
        """For how many commands the end of the run waits; 0 before its end."""
        return self.delivery_hook.unended if self.delivery_hook and self.over.is_set() else 0

    async def run(self, runner: Runner, last_event: int) -> Ending:
        """Run the runner to its end with these hooks. Raises what the run raises."""
        if not (self.notifier.receivers or self.delivery_hook or self.metrics):
            return await runner.run()
        self.runner, self.context = runner, runner.context
        self.batch = self.context.spec.batch.name
        self.last_event, self.last_movement = last_event, clock.utcnow()
        try:
            await self.open()
            runner.before_end = self.finish
            self.following = asyncio.create_task(self.follow())
            try:
                ending = await runner.run()
            except BatchgenError as error:
                self.notify_end(str(error), None, NextStep("", "run"))
                raise
            self.notify_end(ending.message, ending.batch_summary, next_step(ending))
            return ending
        finally:
            await self.close()

    async def open(self) -> None:
        """Start the threads, take up the files of earlier runs, and serve the metrics."""
        context = self.context
        self.notifier.on_failure = self.notification_failed
        self.notifier.start()
        if self.delivery_hook:
            self.delivery_hook.on_result = self.count
            secrets = (context.service.variables.key,)
            await self.delivery_hook.open(context.database, self.batch, context.batch_id, context.run_id, secrets)
        if self.metrics:
            from batchgen.hooks.metrics import RunMetrics

            self.metrics.registry.register(
                RunMetrics(context.database, context.batch_id, self.batch, context.answers, lambda: self.last_movement)
            )

    async def follow(self) -> None:
        """Read the events of the batch until the run is over, and do what follows from them."""
        try:
            while not await wait_for(self.over, FOLLOW_SECONDS):
                await self.turn()
        except Exception as error:  # A hook must not end a run, and the run itself says what ends it.
            LOG.warning("hooks.failed", extra={"reason": str(error)})

    async def turn(self) -> None:
        context, database = self.context, self.context.database
        if not self.has_begun:
            self.has_begun = context.run_id in await database.read(leases.unended, context.batch_id)
        if not self.has_begun:  # The run that starts the commands is not in the table yet.
            return
        while events := await database.read(statistics.events_since, context.batch_id, self.last_event):
            self.last_event = events[-1].id
            self.last_movement, self.notified_idle = clock.utcnow(), False
            delivered = [event.key for event in events if event.to_state is State.DONE]
            if self.delivery_hook and delivered:
                await self.delivery_hook.add(delivered)
        if self.delivery_hook:
            self.delivery_hook.start_waiting()
        if self.notifier.receivers:
            await self.notify_trouble(clock.utcnow())

    async def notify_trouble(self, now: datetime) -> None:
        """Notify once of each breaker, and once for each time in which nothing moves for long."""
        stop = stop_of(self.context, now)
        if stop and stop.kind not in self.notified_stops:
            self.notified_stops.add(stop.kind)
            title = f"batchgen: {self.batch}: no more is sent ({stop.kind})"
            self.notifier.notify(Message(title, [stop.message, stop.hint]))
        if now - self.last_movement < IDLE or self.notified_idle:
            return
        self.notified_idle = True
        waiting = await self.context.database.read(blockers.blockers, self.context.batch_id, now)
        minutes = round((now - self.last_movement).total_seconds() / 60)
        title = f"batchgen: {self.batch}: nothing has moved for {plural(minutes, 'minute')}"
        self.notifier.notify(Message(title, [*map(str, waiting), f"More: {self.to_type('status')}"]))

    def notify_end(self, message: str, summary: BatchSummary | None, step: NextStep) -> None:
        lines = message.splitlines() or [""]
        title = f"batchgen: {self.batch}: {lines[0]}"
        if summary:
            states = ", ".join(f"{number} {state}" for state, number in summary.counts.items() if number)
            reserved = f"{amount_text(summary.reserved_usd)} USD reserved" if summary.reserved_usd else ""
            cost = [f"{amount_text(summary.cost_usd)} USD", unknown_charges(summary.unpriced), reserved]
            lines.append(f"{states or 'no jobs'}; {' and '.join(filter(None, cost))}")
        if self.failed:
            lines.append(f"{plural(self.failed, 'command')} of --exec failed")
        if step.hint:
            lines.append(f"Next: {step.hint}.")
        if step.command:
            lines.append(self.to_type(step.command))
        self.notifier.notify(Message(title, lines))

    async def finish(self) -> None:
        """Start the commands for the last files, and wait for them. The run still counts as at work."""
        self.over.set()
        with contextlib.suppress(Exception):  # as in `follow`
            if self.following:
                await self.following
            await self.turn()
            if self.delivery_hook:
                await self.delivery_hook.close(lambda: self.runner.signal is not None)

    async def close(self) -> None:
        """Send the last notifications."""
        self.over.set()
        if self.following:
            await self.following
        await self.notifier.close()

    def release(self) -> None:
        """Give back the port of the metrics."""
        if self.metrics:
            self.metrics.stop()

    def count(self, result: HookResult) -> None:
        """Count how a command ended, and report it."""
        if result.exit_code:
            self.failed += 1
            self.keep_failure(str(result))
        else:
            self.ended_well += 1
        self.report(result)

    def notification_failed(self, sentence: str) -> None:
        self.keep_failure(sentence)
        self.report(sentence)

    def keep_failure(self, failure: str) -> None:
        if len(self.failures) < FAILURES_KEPT:
            self.failures.append(failure)


def log_failure(result: HookResult | str) -> None:
    """Log what failed, as a sentence for a person."""
    if isinstance(result, str) or result.exit_code:
        LOG.warning(str(result), extra={"is_sentence": True})
    else:
        LOG.info("hook.ended", extra={"job": result.key})
