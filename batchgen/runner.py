"""One run of a batch: recover, turn the stages, handle signals, decide when it is over.

Only this module sleeps. The stages meet in rows of the job table; here each one is connected to the stages downstream
of it, so that a stage is woken as soon as another has moved a row for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from batchgen import clock
from batchgen.downloader import Downloader
from batchgen.ending import Ending, judge
from batchgen.errors import ExitCode, ServiceUnreachable
from batchgen.files import liveness
from batchgen.jobs import State
from batchgen.jobtable import leases, place, pricelist, statistics, timings
from batchgen.jobtable.database import Database
from batchgen.jobtable.selection import Selection
from batchgen.jobtable.sync import Batch, SyncResult
from batchgen.limits import accounting
from batchgen.limits.budget import Hold, Terms
from batchgen.limits.generation_times import GenerationTimes
from batchgen.manifest import Limits
from batchgen.poller import Poller
from batchgen.reconciler import Reconciler
from batchgen.scheduler import Scheduler
from batchgen.services.base import AT_ONCE, Service
from batchgen.stage import LEASE, RunContext, Stage

LOG = logging.getLogger("batchgen.run")
BREATH_SECONDS = 0.05  # between two ticks of one stage: tasks that end in between share a claim, which saves CPU time
IDLE_SECONDS = 30.0  # the longest pause between two ticks: a change that nobody notified is noticed after it
NEIGHBOURS_SECONDS = 2.0  # between two checks for dead runs: what one held is taken over within this time
RENEW_SECONDS = 60.0  # between two renewals of the leases: a fifth of `LEASE`, so that four renewals may fail
CHARGE_REQUESTS = 10  # for a charge on which everything waits, a second apart
MOMENT_SECONDS = 1.0  # for which a run waits for prices and generation times before its first claim
QUESTION_SECONDS = 60.0  # for one of them: a plug-in has closer bounds of its own
FIRST_CONTACT = timedelta(seconds=20)  # after it, the run gives up a service that has not answered once
OUTAGE = timedelta(hours=6)  # after it, the run gives up a service that answered before


@dataclass(frozen=True, slots=True)
class RunSpec:
    """A manifest whose jobs are rows, and the terms on which a run sends them."""

    batch: Batch
    jobs: int
    """How many the manifest has."""
    synced: SyncResult
    folder: Path
    limits: Limits
    models: Sequence[str]
    terms: Terms
    selection: Selection
    """The options that `terms.selected` comes from."""
    verify: bool = False
    """Read every delivered file at the end, and compare it with its SHA-256."""


class Runner:
    """One run of one batch."""

    def __init__(self, database: Database, service: Service, spec: RunSpec) -> None:
        self.database, self.spec = database, spec
        self.batch_id = spec.synced.batch_id
        self.id = uuid4().hex[:12]
        self.selection = None if spec.selection.is_everything else str(spec.selection)
        times = GenerationTimes({}, {})
        self.context = RunContext(
            database, service, self.batch_id, self.id, spec.folder, spec.limits, times, spec.models, spec.terms
        )
        self.scheduler = Scheduler(self.context, AT_ONCE)
        self.poller = Poller(self.context, AT_ONCE)
        self.downloader = Downloader(self.context, spec.limits.downloads)
        self.reconciler = Reconciler(self.context, 1)
        self.stages: tuple[Stage, ...] = (self.scheduler, self.poller, self.downloader, self.reconciler)
        self.over = asyncio.Event()
        """Set once no loop is to begin another turn."""
        self.moved = asyncio.Event()
        """Set whenever a row may have moved, for `watch_end`."""
        self.end_watch: asyncio.Task[None] | None = None
        self.signal: signal.Signals | None = None
        self.failure: BaseException | None = None
        """The first exception of a loop."""
        self.charge_requests = 0

    async def run(self) -> Ending:
        """Bring the batch as far as it can be brought. Raises `ServiceUnreachable`, `StorageError`."""
        await self.database.read(place.check_runs, self.database.path)
        with liveness.lock_held(self.database.path, self.id) as lock:
            write = self.database.write
            host, pid, now = liveness.host_name(), os.getpid(), clock.utcnow()
            await write(leases.begin_run, self.id, self.batch_id, host, pid, now, self.selection)
            lock.record()
            LOG.info("run.started", extra={"run": self.id})
            code, message = ExitCode.INTERNAL_ERROR, None
            try:
                await self.recover()
                await asyncio.to_thread(liveness.sweep, self.database.path)
                await write(leases.wake_waiting, self.batch_id, clock.utcnow(), self.context.service.origin)
                await self.prepare()
                async with self.asking_beside():
                    await self.turn_all()
                choose, now = self.scheduler.choose, clock.utcnow()
                ending = await self.database.read(
                    judge, self.context, self.signal, choose, now, verify=self.spec.verify
                )
                code, message = ending.exit_code, ending.message
                return ending
            except ServiceUnreachable as error:
                code, message = error.exit_code, str(error)
                raise
            finally:
                LOG.info("run.ended", extra={"run": self.id, "exit_code": int(code)})
                with contextlib.suppress(Exception):  # The reason for the ending matters more than its record.
                    await write(leases.end_run, self.id, code, clock.utcnow(), message)
                lock.stays = not self.database.is_in_place()

    async def recover(self) -> None:
        """Release the leases of dead runs. A request of theirs that may have been sent becomes unconfirmed.

        Raises `StorageError` where the job table has lost its place.
        """
        self.database.check_in_place()
        holders = await self.database.read(leases.holders)
        holders.pop(self.id, None)
        dead = await asyncio.to_thread(liveness.dead, self.database.path, holders)
        if dead:
            await self.database.write(leases.recover_dead, dead, clock.utcnow())
            self.notify(*self.stages)

    async def prepare(self) -> None:
        """Begin with the prices and the generation times that the table has."""
        context = self.context
        context.prices = await self.database.read(pricelist.load, context.service.name)
        context.times = GenerationTimes({}, await self.database.read(timings.load, context.service.name))

    @contextlib.asynccontextmanager
    async def asking_beside(self) -> AsyncIterator[None]:
        """Ask the service for what a run is better with, beside the run: a slow answer holds up nothing.

        Most answers come within a moment, for which the run waits: then even its first polls are planned well.
        """
        self.context.awaits_prices = self.context.terms.max_cost is not None
        questions = [self.ask_times(), self.ask_money()]
        tasks = [asyncio.create_task(self.until_over(question)) for question in questions]
        try:
            await asyncio.wait(tasks, timeout=MOMENT_SECONDS)
            if self.context.awaits_prices:
                self.context.hold = "the price list has not come yet, which max_cost needs"
            for model in self.context.models:  # An earlier run may have planned polls knowing less.
                await self.poller.bring_forward(model, clock.utcnow())
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def ask_times(self) -> None:
        """Take over the service's median generation times, and poll earlier what they show to be planned too late."""
        context = self.context
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(QUESTION_SECONDS):
                measured = await context.service.typical_seconds(context.models)
            context.times.take_over(measured)
            for model in measured:
                await self.poller.bring_forward(model, clock.utcnow())
            self.notify(self.poller)

    async def ask_prices(self) -> None:
        """Take over the service's price list; without an answer, the stored one counts."""
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(QUESTION_SECONDS):
                    self.context.prices = await accounting.learn_prices(
                        self.database, self.context.service, clock.utcnow()
                    )
        finally:
            self.context.awaits_prices = False
            self.notify(self.scheduler)

    async def ask_money(self) -> None:
        """Ask for prices and balance, and warn where the balance is too low for the pending jobs."""
        context = self.context
        balance, _ = await asyncio.gather(context.service.balance(), self.ask_prices())
        context.warning = await accounting.warn_of_balance(
            self.database, balance, context.batch_id, context.terms, context.prices, clock.utcnow()
        )

    async def turn_all(self) -> None:
        """Turn every stage until nothing is left to do, a signal comes, or something breaks.

        No loop of a stage is cancelled: a claim that is being committed must also be submitted, because an intent that
        nobody sends becomes an unconfirmed attempt.
        """
        downstream: dict[Stage, tuple[Stage, ...]] = {
            self.scheduler: (self.scheduler, self.poller),
            self.poller: (self.poller, self.downloader, self.scheduler),
            self.downloader: (self.downloader,),
            self.reconciler: (self.reconciler, self.poller, self.scheduler),
        }
        for stage in self.stages:
            stage.on_change = lambda changed, moved: self.notify(*(downstream[changed] if moved else (changed,)))
        self.scheduler.on_unconfirmed = lambda: self.notify(self.reconciler)
        try:
            async with asyncio.TaskGroup() as loops:
                for loop in (
                    *(self.turn(stage) for stage in self.stages),
                    self.repeat(self.recover, NEIGHBOURS_SECONDS),
                    self.repeat(self.renew_leases, RENEW_SECONDS),
                ):
                    loops.create_task(self.until_over(loop))
                self.end_watch = loops.create_task(self.until_over(self.watch_end()))
        finally:
            self.over.set()
            if self.signal:
                # A person waits for creates and downloads only: the next run asks a question again for nothing.
                cancel_tasks(self.poller, self.reconciler)
            await asyncio.gather(*(stage.finish() for stage in self.stages))
            await self.downloader.close()
        failures = (self.failure, *(stage.failure for stage in self.stages))
        if failure := next(filter(None, failures), None):
            raise failure

    async def until_over(self, loop: Coroutine[Any, Any, None]) -> None:
        """Run a loop. An exception in it ends the run in good order instead of cancelling the other loops."""
        try:
            await loop
        except Exception as error:
            self.failure = self.failure or error
            self.end()

    def end(self) -> None:
        """Let every loop end after its current turn."""
        self.over.set()
        self.notify(*self.stages)

    async def turn(self, stage: Stage) -> None:
        """Tick one stage whenever it is woken or its time comes."""
        while not self.over.is_set():
            stage.wakeup.clear()
            due = await stage.tick(clock.utcnow())
            self.moved.set()
            await asyncio.sleep(BREATH_SECONDS)
            seconds = IDLE_SECONDS if due is None else (due - clock.utcnow()).total_seconds()
            await wait_for(stage.wakeup, min(seconds, IDLE_SECONDS))

    def notify(self, *stages: Stage) -> None:
        """Wake stages that may have work."""
        for stage in stages:
            stage.wakeup.set()
        self.moved.set()

    async def watch_end(self) -> None:
        """End the run once it cannot bring any job forward."""
        while not self.over.is_set():
            await asyncio.sleep(BREATH_SECONDS)
            await wait_for(self.moved, 1.0)
            self.moved.clear()
            if any(stage.failure for stage in self.stages):
                self.end()
            self.give_up_silence(clock.utcnow())
            if any(stage.tasks for stage in self.stages) or self.context.awaits_prices:
                continue
            if not await self.can_advance() and not await self.charges_came():
                self.end()

    async def can_advance(self) -> bool:
        """Whether this run can still bring a job forward."""
        states, now = self.advanceable_states(), clock.utcnow()
        if State.PENDING in states and self.context.terms.any:
            if (await self.database.read(self.scheduler.choose, now, 1)).chosen:
                return True
            states.remove(State.PENDING)
        return await self.database.read(statistics.any_open, self.batch_id, states, now, self.context.service.origin)

    async def charges_came(self) -> bool:
        """Read charges that no answer named. One on which everything waits may be late, so it is asked for again."""
        context, now = self.context, clock.utcnow()
        if context.locked_out:
            return False
        if await accounting.learn_charges(self.database, context.service, context.batch_id, now):
            self.notify(self.scheduler)
            return True
        self.charge_requests += 1
        choice = await self.database.read(self.scheduler.choose, now, 1)
        return choice.hold is Hold.PRICE and self.charge_requests < CHARGE_REQUESTS

    def advanceable_states(self) -> list[State]:
        """The states from which this run can still bring a job forward."""
        if self.context.disk:
            return []
        if self.context.locked_out:
            return [State.DOWNLOADING]
        active = [state for state in State if state.is_active]
        return active if self.context.blocked else [State.PENDING, *active]

    def give_up_silence(self, now: datetime) -> None:
        """Raises `ServiceUnreachable` once the service has not answered for too long."""
        contact, service = self.context.contact, self.context.service
        patience = OUTAGE if contact.ever else FIRST_CONTACT
        if contact.silent_since and now - contact.silent_since >= patience:
            raise ServiceUnreachable(
                f"{service.base_url} does not answer: {contact.reason}."
                "\nNothing is lost: the same command goes on once it does."
                f" ({service.variables.base_url} sets the address.)"
            )

    async def repeat(self, action: Callable[[], Awaitable[None]], seconds: float) -> None:
        """Do something at intervals until the run is over."""
        while not await wait_for(self.over, seconds):
            await action()

    async def renew_leases(self) -> None:
        """Keep the leases of this run from ending."""
        now = clock.utcnow()
        await self.database.write(leases.renew, self.id, now, now + LEASE)

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Handle SIGINT and SIGTERM: the first stops the run in good order, the second at once."""
        loop = asyncio.get_running_loop()
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        for number in before:
            signal.signal(number, lambda number, _frame: loop.call_soon_threadsafe(self.stop, signal.Signals(number)))
        try:
            yield
        finally:
            for number, handler in before.items():
                # After a first signal only the summary is left; a second one must not cut off how to go on.
                signal.signal(number, signal.SIG_IGN if self.signal else handler)

    def stop(self, number: signal.Signals) -> None:
        """The first signal: claim nothing more, and end. The second: cancel every task."""
        if self.signal is None:
            self.signal = number
            for stage in self.stages:
                stage.stopping = True
            self.end()
            if self.end_watch:
                self.end_watch.cancel()  # It may be waiting for the service to list charges.
        else:
            self.database.impatient.set()
            cancel_tasks(*self.stages)


def cancel_tasks(*stages: Stage) -> None:
    for stage in stages:
        for task in stage.tasks:
            task.cancel()


async def wait_for(event: asyncio.Event, seconds: float) -> bool:
    """Wait for `event`, at most `seconds`. Whether it is set."""
    if not event.is_set() and seconds > 0:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await event.wait()
    return event.is_set()
