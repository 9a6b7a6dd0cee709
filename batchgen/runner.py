"""One run of a batch: recover, turn the stages, handle signals, decide when it is over.

Only this module sleeps. The stages meet in rows; here each is connected to those that it may have moved a row for.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from functools import partial
from uuid import uuid4

from batchgen import clock
from batchgen.context import RunContext, RunSpec
from batchgen.downloader import Downloader
from batchgen.errors import BatchgenError, ExitCode, TableLocked
from batchgen.files import liveness
from batchgen.files.checker import Checker
from batchgen.jobtable import leases, place, pricelist, run_lock, timings
from batchgen.jobtable.database import Database
from batchgen.jobtable.table_lock import TableLock
from batchgen.limits import rate
from batchgen.limits.generation_times import GenerationTimes
from batchgen.measurer import Measurer
from batchgen.poller import Poller
from batchgen.reconciler import Reconciler
from batchgen.runs.ending import Ending, is_any_open, judge_run
from batchgen.runs.repeat_check import RepeatCheck
from batchgen.runs.upkeep import STEERING_SECONDS, Upkeep, check_storage
from batchgen.scheduler import Scheduler
from batchgen.services.base import AT_ONCE, Service
from batchgen.stage import Stage, call_in, wait_for

LOG = logging.getLogger("batchgen.run")
TICK_GAP_SECONDS = 0.05  # between two ticks of one stage: tasks that end in between share a claim, which saves CPU time
IDLE_SECONDS = 30.0  # the longest pause between two ticks: a change that nobody notified is noticed after it
FIRST_ANSWERS_SECONDS = 1.0  # for which a run waits for prices and generation times before its first claim
LOCK_CHECK_SECONDS = 0.1  # between two checks whether a run that is stopping still waits for another program's lock


class Runner:
    """One run of one batch."""

    def __init__(self, database: Database, service: Service, spec: RunSpec) -> None:
        self.database = database
        self.id = uuid4().hex[:12]
        self.context = RunContext(database, service, spec, self.id, spec.limits, GenerationTimes({}, {}))
        self.scheduler = Scheduler(self.context, AT_ONCE)
        self.poller = Poller(self.context, AT_ONCE)
        self.downloader = Downloader(self.context, spec.limits.downloads)
        self.reconciler = Reconciler(self.context, 1)
        self.measurer = Measurer(self.context, Checker(is_patient=True))
        self.job_stages: tuple[Stage, ...] = (self.scheduler, self.poller, self.downloader, self.reconciler)
        """The stages that move jobs; a run is over when they have nothing to do."""
        self.stages = (*self.job_stages, self.measurer)
        self.over = asyncio.Event()
        """Set once no loop is to begin another turn."""
        self.moved = asyncio.Event()
        """Set whenever a job may have moved, for `watch_end`."""
        self.moved.set()
        self.end_watch: asyncio.Task[None] | None = None
        self.lock_watch: asyncio.Task[None] | None = None
        self.signal: signal.Signals | None = None
        self.failure: BaseException | None = None
        """The first exception of a loop."""
        self.before_end: Callable[[], Awaitable[None]] | None = None
        """Awaited before the end of the run is recorded."""
        self.upkeep = Upkeep(self.context, lambda: self.notify(*self.stages), self.downloader.resize)

    async def run(self) -> Ending:
        """Bring the batch as far as it can be brought. Raises `ServiceUnreachable`, `StorageError`."""
        await self.database.read(place.check_runs, self.database.path)
        loop, write, spec = asyncio.get_running_loop(), self.database.write, self.context.spec
        with run_lock.lock_held(self.database, self.id, lambda: call_in(loop, self.notify, *self.stages)) as lock:
            self.upkeep.neighbours.own_lock = lock
            owner = run_lock.Owner(liveness.host_name(), os.getpid(), lock.is_possible)
            options = (None if spec.selection.is_everything else str(spec.selection), spec.typed)
            await write(leases.begin_run, self.id, self.context.batch_id, owner, clock.utcnow(), *options)
            lock.record()
            LOG.info("run.started", extra={"run": self.id})
            code, message, hold = ExitCode.INTERNAL_ERROR, None, None
            try:
                ending = await self.bring_to_end()
                code, message, hold = ending.exit_code, ending.message, ending.hold
                return ending
            except BatchgenError as error:
                if self.signal and isinstance(error, TableLocked):
                    error.exit_code = ExitCode(128 + self.signal)  # A person has ended the run, not the lock.
                code, message = error.exit_code, str(error)
                raise
            finally:
                if self.before_end:
                    await self.before_end()
                LOG.info("run.ended", extra={"run": self.id, "exit_code": int(code)})
                with contextlib.suppress(Exception):  # The reason for the ending matters more than its record.
                    await write(leases.end_run, self.id, code, clock.utcnow(), message, hold)
                lock.stays = self.database.misplaced() is not None

    async def bring_to_end(self) -> Ending:
        """Recover what dead runs held, turn the stages, and judge. Raises what a person has to decide or to mend."""
        await self.upkeep.recover()
        await asyncio.to_thread(liveness.remove_leftover_locks, self.database.path)
        await self.upkeep.wake_waiting()
        # Learned limits and pauses are up to date while another run is at work; else they begin anew.
        if not await self.upkeep.others_at_work():
            await self.database.write(rate.reset_for_run, self.context.service.name, clock.utcnow())
        await self.prepare()
        async with self.background_questions():
            await self.turn_all()
        if self.context.decision and not self.signal:
            raise self.context.decision
        verify = self.context.spec.verify
        return await self.database.read(judge_run, self.context, self.signal, clock.utcnow(), verify=verify)

    async def prepare(self) -> None:
        """Begin with what the table has: settings, prices, generation times. Then see whether videos can be stored."""
        context = self.context
        self.upkeep.note_gap(clock.utcnow())
        await self.upkeep.heed_steering()
        context.prices = await self.database.read(pricelist.load, context.service.name)
        learned, speed = await self.database.read(timings.load, context.service.name), context.service.features.speed
        context.times = GenerationTimes({}, learned, speed)
        await check_storage(context)

    @contextlib.asynccontextmanager
    async def background_questions(self) -> AsyncIterator[None]:
        """Ask the service for its log, generation times and prices, while the stages poll and download.

        Most answers come within a moment, for which the run waits: then even its first polls are planned well.
        """
        self.context.awaits_history = True
        repeats = RepeatCheck(self.context, self.wait)
        questions = [repeats.check, self.poller.learn_medians, self.upkeep.ask_money]
        tasks = [asyncio.create_task(self.until_over(question)) for question in questions]
        try:
            await asyncio.wait(tasks, timeout=FIRST_ANSWERS_SECONDS)
            self.upkeep.note_awaited_answer()
            for model in self.context.spec.models:  # An earlier run may have planned polls without these medians.
                await self.poller.bring_forward(model, clock.utcnow())
            check_again = partial(self.at_intervals, repeats.check_again, STEERING_SECONDS)
            tasks.append(asyncio.create_task(self.until_over(check_again)))
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def wait(self, seconds: float) -> bool:
        """Wake the stages, and wait for so many seconds. Returns whether the run is over."""
        self.notify(*self.stages)
        return await wait_for(self.over, seconds)

    async def turn_all(self) -> None:
        """Turn every stage until nothing is left to do, a signal comes, or something breaks.

        No loop of a stage is cancelled: a claim that is being committed must also be submitted, because an intent that
        nobody sends becomes an unconfirmed attempt.
        """
        self.connect()
        try:
            async with asyncio.TaskGroup() as loops:
                for loop in (
                    *(partial(self.turn, stage) for stage in self.stages),
                    *(partial(self.at_intervals, action, seconds) for action, seconds in self.upkeep.intervals()),
                ):
                    loops.create_task(self.until_over(loop))
                self.end_watch = loops.create_task(self.until_over(self.watch_end))
        finally:
            await self.finish()
        failures = (self.failure, *(stage.failure for stage in self.stages))
        if failure := next(filter(None, failures), None):
            raise failure

    def connect(self) -> None:
        """Have each stage wake those that it may have moved a row for."""
        downstream: dict[Stage, tuple[Stage, ...]] = {
            self.scheduler: (self.scheduler, self.poller),
            self.poller: (self.poller, self.downloader, self.scheduler),
            self.downloader: (self.downloader, self.measurer),
            self.reconciler: (self.reconciler, self.poller, self.scheduler),
            self.measurer: (self.measurer,),
        }

        def wake(changed: Stage, moved: bool) -> None:
            if moved:
                self.notify(*downstream[changed])
            else:
                changed.wakeup.set()

        for stage in self.stages:
            stage.on_change = wake
        self.scheduler.on_unconfirmed = lambda: self.notify(self.reconciler)

    async def finish(self) -> None:
        """Let the tasks that are running end, and close what the stages have open."""
        self.over.set()
        if self.signal:
            # A person waits for creates and downloads only: the next run asks a question again for nothing.
            for stage in (self.poller, self.reconciler, self.measurer):
                stage.cancel()
        await asyncio.gather(*(stage.finish() for stage in self.stages))
        await asyncio.gather(self.downloader.close(), self.measurer.close())
        if self.lock_watch:
            self.lock_watch.cancel()
            self.database.lock.impatient.set()  # Only the end of the run is left to be written.

    async def until_over(self, loop: Callable[[], Awaitable[None]]) -> None:
        """Run a loop. An exception in it ends the run in good order instead of cancelling the other loops."""
        try:
            await loop()
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
            await asyncio.sleep(TICK_GAP_SECONDS)
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
            await asyncio.sleep(TICK_GAP_SECONDS)
            await wait_for(self.moved, 1.0)
            self.moved.clear()
            if any(stage.failure for stage in self.stages):
                self.end()
            is_at_work = any(stage.tasks for stage in self.job_stages)
            if is_at_work or not self.context.steering.pause:  # a paused run need not reach the service
                self.context.check_contact(clock.utcnow())
            if is_at_work or self.context.awaits_prices:
                continue
            if not await self.can_advance():
                await self.measurer.measure_remaining()
                # Meanwhile a person may have added jobs, or retried some.
                if not any(stage.tasks for stage in self.job_stages) and not await self.can_advance():
                    self.end()

    async def can_advance(self) -> bool:
        """Whether this run can still bring a job forward."""
        now = clock.utcnow()
        is_open = await self.database.read(is_any_open, self.context, now)
        return is_open or await self.upkeep.ask_charges(now)

    async def at_intervals(self, action: Callable[[], Awaitable[None]], seconds: float) -> None:
        """Call `action` every `seconds` until the run is over."""
        while not await wait_for(self.over, seconds):
            await action()

    def stop(self, stopped_by: signal.Signals) -> None:
        """The first signal: claim nothing more, and end. The second: cancel every task."""
        if self.signal is None:
            self.signal = stopped_by
            for stage in self.stages:
                stage.stopping = True
            self.end()
            if self.end_watch:
                self.end_watch.cancel()  # It may be waiting for the service to list charges.
            if not self.context.spec.is_worker:  # Its other runs share the lock.
                self.lock_watch = asyncio.create_task(give_up_lock(self.database.lock, lambda: [self]))
        else:
            self.database.lock.impatient.set()
            for stage in self.stages:
                stage.cancel()


async def give_up_lock(lock: TableLock, runners: Callable[[], Iterable[Runner]]) -> None:
    """After the first signal, wait for the lock of another program only while it keeps a create from its row."""
    never = asyncio.Event()
    while not lock.is_held or any(runner.scheduler.unrecorded for runner in runners()):
        await wait_for(never, LOCK_CHECK_SECONDS)
    lock.impatient.set()
