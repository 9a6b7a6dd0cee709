"""The composition root of a run: recover, turn the stages, listen to signals, decide when it is over.

Only this module sleeps. The stages meet in rows; here their bells are tied together, so that what one brings to the
table another finds without waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from uuid import uuid4

from batchgen import bookkeeping, clock
from batchgen.downloader import Downloader
from batchgen.errors import ServiceUnreachable
from batchgen.files import liveness
from batchgen.jobs import State
from batchgen.jobtable import leases, selection, statistics, timings
from batchgen.jobtable.database import Database
from batchgen.jobtable.statistics import BatchSummary
from batchgen.limits import budget
from batchgen.limits.budget import Hold, Terms
from batchgen.limits.generation_times import GenerationTimes
from batchgen.manifest import Limits
from batchgen.poller import Poller
from batchgen.reconciler import Reconciler
from batchgen.scheduler import Scheduler
from batchgen.services.base import AT_ONCE, Blocked, Service, Trouble
from batchgen.stage import LEASE, RunContext, Stage

BREATH_SECONDS = 0.005  # between two looks of one stage: what ends meanwhile is taken up together
IDLE_SECONDS = 30.0  # at most, between two looks at the table
NEIGHBOURS_SECONDS = 2.0  # between two looks at whether other runs live
RENEW_SECONDS = 60.0
CHARGE_ASKINGS = 10  # a second apart, for a charge that everything waits for
FIRST_CONTACT = timedelta(seconds=20)
"""A service that has never answered in this run is given up after so long."""
OUTAGE = timedelta(hours=6)
"""One that has answered before is waited for as long as this."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended: the exit code, and one sentence for a person."""

    exit_code: int
    told: str
    batch_summary: BatchSummary


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run works on."""

    batch_id: int
    folder: Path
    limits: Limits
    models: Sequence[str]
    terms: Terms = field(default_factory=Terms)


class Runner:
    """One run of one batch."""

    def __init__(self, database: Database, service: Service, plan: Plan, first_contact: timedelta = FIRST_CONTACT):
        self.database = database
        self.plan = plan
        self.first_contact = first_contact
        self.id = uuid4().hex[:12]
        self.context = RunContext(
            database, service, plan.batch_id, self.id, plan.folder, plan.limits, GenerationTimes({}, {}), plan.models
        )
        self.scheduler = Scheduler(self.context, AT_ONCE)
        self.poller = Poller(self.context, AT_ONCE)
        self.downloader = Downloader(self.context, plan.limits.downloads)
        self.reconciler = Reconciler(self.context, 1)
        self.stages: tuple[Stage, ...] = (self.scheduler, self.poller, self.downloader, self.reconciler)
        self.over = asyncio.Event()
        self.moved = asyncio.Event()
        self.signal: signal.Signals | None = None
        self.askings = 0

    async def run(self) -> Ending:
        """Bring the batch as far as it can be brought. Raises `ServiceUnreachable`, `StorageError`."""
        with liveness.present(self.database.path, self.id):
            write = self.database.write
            await write(leases.begin_run, self.id, self.plan.batch_id, liveness.here(), os.getpid(), clock.utcnow())
            code = 1
            try:
                await self.recover()
                await asyncio.to_thread(liveness.sweep, self.database.path)
                await write(leases.wake_waiting, self.plan.batch_id, clock.utcnow())
                self.context.terms = self.plan.terms
                service = self.context.service
                measured, balance, _ = await asyncio.gather(
                    service.typical_seconds(self.plan.models),
                    service.balance(),
                    bookkeeping.learn_prices(self.context, clock.utcnow()),
                )
                await bookkeeping.compare_balance(self.context, balance, clock.utcnow())
                self.context.times = GenerationTimes(
                    measured, await self.database.read(timings.known, self.context.service.name)
                )
                with self.listening():
                    await self.turn_all()
                ending = await self.judge_ending()
                code = ending.exit_code
                return ending
            except ServiceUnreachable as error:
                code = error.exit_code
                raise
            finally:
                with contextlib.suppress(Exception):  # the reason for ending matters more than its record
                    await write(leases.end_run, self.id, code, clock.utcnow())

    async def recover(self) -> None:
        """Take back what dead runs held. A request of theirs that may have left becomes unconfirmed."""
        held = await self.database.read(leases.holders)
        held.pop(self.id, None)
        dead = await asyncio.to_thread(liveness.dead, self.database.path, held)
        if dead:
            await self.database.write(leases.recover_dead, dead, clock.utcnow())
            self.notify(*self.stages)

    async def turn_all(self) -> None:
        """Turn every stage until nothing is left to do, a signal comes, or something breaks."""
        downstream: dict[Stage, tuple[Stage, ...]] = {
            self.scheduler: (self.scheduler, self.poller),
            self.poller: (self.poller, self.downloader, self.scheduler),
            self.downloader: (self.downloader,),
            self.reconciler: (self.reconciler, self.poller, self.scheduler),
        }
        for stage in self.stages:
            stage.on_change = lambda changed, moved: self.notify(*(downstream[changed] if moved else (changed,)))
        self.scheduler.on_unconfirmed = lambda: self.notify(self.reconciler)
        turning = [asyncio.create_task(self.turn(stage)) for stage in self.stages]
        beside = (self.watch_neighbours(), self.renew(), self.watch_end())
        tasks = [*turning, *(asyncio.create_task(loop) for loop in beside)]
        ended = asyncio.ensure_future(self.over.wait())
        try:
            await asyncio.wait([*tasks, ended], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.over.set()
            self.notify(*self.stages)
            # A claim that is being committed is carried out: an intent that nobody sends would be a doubt for a person.
            await asyncio.gather(*turning, return_exceptions=True)
            await asyncio.gather(*(stage.finish() for stage in self.stages))
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, ended, return_exceptions=True)
            await self.downloader.close()
        for task in tasks:
            if not task.cancelled() and (error := task.exception()):
                raise error
        for stage in self.stages:
            if stage.failure:
                raise stage.failure

    async def turn(self, stage: Stage) -> None:
        """Tick one stage whenever its bell rings or its time comes."""
        while not self.over.is_set():
            stage.wakeup.clear()
            due = await stage.tick(clock.utcnow())
            self.moved.set()
            await asyncio.sleep(BREATH_SECONDS)
            wait = IDLE_SECONDS if due is None else (due - clock.utcnow()).total_seconds()
            await wait_for(stage.wakeup, min(wait, IDLE_SECONDS))

    def notify(self, *stages: Stage) -> None:
        for stage in stages:
            stage.wakeup.set()
        self.moved.set()

    async def watch_end(self) -> None:
        """Set `over` once no job can be brought forward by this run."""
        while not self.over.is_set():
            await asyncio.sleep(BREATH_SECONDS)
            await wait_for(self.moved, 1.0)
            self.moved.clear()
            if any(stage.failure for stage in self.stages):
                self.over.set()
            self.give_up_silence(clock.utcnow())
            if any(stage.tasks for stage in self.stages):
                continue
            if not await self.anything_left() and not await self.charges_came():
                self.over.set()

    async def anything_left(self) -> bool:
        """Whether this run can still bring a job forward."""
        advanceable, now = self.advanceable_states(), clock.utcnow()
        if State.PENDING in advanceable and self.context.terms.any:
            if (await self.database.read(self.scheduler.choose, now, 1)).chosen:
                return True
            advanceable.remove(State.PENDING)
        return await self.database.read(statistics.any_open, self.plan.batch_id, advanceable, now)

    async def charges_came(self) -> bool:
        """Learn charges that no answer told. One on which everything waits may be late: it is asked for a few times."""
        if await bookkeeping.learn_charges(self.context, clock.utcnow()):
            self.notify(self.scheduler)
            return True
        self.askings += 1
        choice = await self.database.read(self.scheduler.choose, clock.utcnow(), 1)
        return choice.hold is Hold.PRICE and self.askings < CHARGE_ASKINGS

    def advanceable_states(self) -> list[State]:
        """The states from which this run can still bring a job forward."""
        if self.context.disk:
            return []
        if self.context.locked_out:
            return [State.DOWNLOADING]
        active = [State.SUBMITTING, State.UNCONFIRMED, State.GENERATING, State.DOWNLOADING]
        return active if self.context.blocked else [State.PENDING, *active]

    def give_up_silence(self, now: datetime) -> None:
        contact = self.context.contact
        patience = OUTAGE if contact.ever else self.first_contact
        if contact.silent_since and now - contact.silent_since >= patience:
            raise ServiceUnreachable(
                f"{self.context.service.base_url} does not answer: {contact.reason}."
                "\nNothing is lost: the same command goes on once it does. (AIMLAPI_BASE_URL sets the address.)"
            )

    async def watch_neighbours(self) -> None:
        """Take over from other runs as soon as they die."""
        while True:
            await asyncio.sleep(NEIGHBOURS_SECONDS)
            await self.recover()

    async def renew(self) -> None:
        """Keep what this run holds."""
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            now = clock.utcnow()
            await self.database.write(leases.renew, self.id, now, now + LEASE)

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Signals: the first stops the run in good order, the second at once."""
        loop = asyncio.get_running_loop()
        before = {}
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.getsignal(number)
            signal.signal(number, lambda got, _frame: loop.call_soon_threadsafe(self.stop, signal.Signals(got)))
        try:
            yield
        finally:
            for number, handler in before.items():
                # Once asked to stop, what is left takes a moment; broken off, it could not say how to go on.
                signal.signal(number, signal.SIG_IGN if self.signal else handler)

    def stop(self, got: signal.Signals) -> None:
        """Claim nothing more and end; asked a second time, let go of everything at once."""
        if self.signal is None:
            self.signal = got
            for stage in self.stages:
                stage.stopping = True
            self.over.set()
            self.notify(*self.stages)
        else:
            for stage in self.stages:
                for task in stage.tasks:
                    task.cancel()

    async def judge_ending(self) -> Ending:
        now = clock.utcnow()
        batch_summary = await self.database.read(statistics.batch_summary, self.plan.batch_id, now)
        left_out = await self.database.read(selection.left_out, self.plan.batch_id, self.context.terms.selection)
        wanted = batch_summary.total - batch_summary.counts[State.CANCELLED] - left_out
        left = wanted - batch_summary.counts[State.DONE]
        beside = f"; {left_out} more were not selected" if left_out else ""
        if self.signal:
            return Ending(
                128 + self.signal, "interrupted; the same command goes on where this one stopped", batch_summary
            )
        if not left:
            told = "every job is delivered" if wanted else "there is nothing to do"
            return Ending(0, told + beside, batch_summary)
        if self.context.disk:
            return Ending(
                8, f"{self.context.disk}. Make room, then run the same command: what is paid waits", batch_summary
            )
        if blocked := self.context.blocked:
            return Ending(6 if blocked.trouble is Trouble.ADDRESS else 4, told_of(blocked), batch_summary)
        choice = await self.database.read(self.scheduler.choose, now, 1)
        if choice.hold and not choice.chosen:
            return Ending(5, budget.told_of(choice, self.context.terms), batch_summary)
        told = f"{left} of {wanted} jobs {'is' if left == 1 else 'are'} not delivered"
        return Ending(3, told + beside, batch_summary)


async def wait_for(wakeup: asyncio.Event, seconds: float) -> None:
    """Wait for a bell, at most so long."""
    if not wakeup.is_set() and seconds > 0:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await wakeup.wait()


def told_of(blocked: Blocked) -> str:
    """What a person does about a blocked account."""
    advice = {
        Trouble.AUTH: "the service refuses the key. Set a valid AIMLAPI_API_KEY",
        Trouble.CREDITS: "the account has no credits left, or its plan allows no more. Top it up",
        Trouble.ADDRESS: "the address answers, but is not this service. Check AIMLAPI_BASE_URL",
    }[blocked.trouble]
    return f"{advice}, then run the same command. No job has failed for it. (The service says: {blocked.reason})"
