"""What a run does beside its stages: it keeps up with dead runs, its leases, the clock, and what a person has set, asks
the service about money (prices, the balance, late charges, a top-up), and tries where its videos go."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from batchgen import clock
from batchgen.catalogue.amounts import amount_text
from batchgen.context import COMPARING, RunContext
from batchgen.errors import StorageError
from batchgen.files import object_store
from batchgen.files.disk_space import SCARCE
from batchgen.files.outputs import OutputFolder
from batchgen.jobs import State
from batchgen.jobtable import leases, run_lock, selection, statistics
from batchgen.jobtable.kinds import Hold
from batchgen.limits import accounting
from batchgen.limits.steering import read_steering
from batchgen.services.boundary import LONGER
from batchgen.services.reachability import clock_fault
from batchgen.stage import LEASE

NEIGHBOURS_SECONDS = 2.0  # between two checks for dead runs: what one held is taken over within this time
SERVER_NEIGHBOURS_SECONDS = 0.5  # the same with PostgreSQL, where a missing lock must be seen twice
RENEW_SECONDS = 60.0  # between two renewals of the leases: a fifth of `LEASE`, so that four renewals may fail
STANDSTILL = timedelta(seconds=30)  # without a check of the clock: a busy machine is late by seconds
STEERING_SECONDS = 1.0  # between two reads of what a person has set: it is promised to be heeded within 2 s
FORECAST_JOBS = 1_000  # pending, that are compared with the balance: so many show a low one and are read fast
CHARGE_REQUESTS = 10  # for a charge on which everything waits, a second apart


class Upkeep:
    """Keeps one run in step with the table and the account. `wake` lets every stage look for work, `resize` changes the
    downloads."""

    def __init__(self, context: RunContext, wake: Callable[[], None], resize: Callable[[int], None]) -> None:
        self.context, self.database = context, context.database
        self.wake, self.resize = wake, resize
        self.neighbours = run_lock.Neighbours(self.database)
        self.steady_clock = clock.SteadyClock()
        self.checked_at: datetime | None = None
        """When the clock was last checked."""
        self.has_warned_of_clock = False
        self.heeded_version = self.heeded_order = 0
        """The newest setting that was heeded, and the newest change of the order."""
        self.standstill = ""
        """Why nothing is submitted, as the table has it."""
        self.charge_requests = 0

    def intervals(self) -> list[tuple[Callable[[], Awaitable[None]], float]]:
        """What is done again and again, with the seconds between two times."""
        return [
            (self.recover, NEIGHBOURS_SECONDS if self.database.path else SERVER_NEIGHBOURS_SECONDS),
            (self.heed_steering, STEERING_SECONDS),
            (self.record_standstill, STEERING_SECONDS),
            (self.ask_credits, STEERING_SECONDS),
            (self.renew_leases, RENEW_SECONDS),
            (self.check_clock, NEIGHBOURS_SECONDS),
        ]

    async def recover(self) -> None:
        """Release the leases of dead runs. A request of theirs that may have been sent becomes unconfirmed.

        Raises `StorageError` where the job table has lost its place.
        """
        self.database.check_in_place()
        if await leases.release_dead(self.database, self.neighbours, self.context.run_id, clock.utcnow()):
            self.wake()

    async def others_at_work(self) -> bool:
        """Whether another run is at work on the job table, on whatever batch."""
        owners = await self.database.read(leases.unended)
        owners.pop(self.context.run_id, None)
        return len(owners) > len(await asyncio.to_thread(run_lock.dead_runs, self.database, owners))

    async def renew_leases(self) -> None:
        """Keep the leases of this run from ending."""
        now = clock.utcnow()
        await self.database.write(leases.renew, self.context.run_id, now, now + LEASE)

    async def record_standstill(self) -> None:
        """Let `status` say why nothing is submitted."""
        if (reason := self.context.standstill) != self.standstill:
            self.standstill = reason
            await self.database.write(leases.record_standstill, self.context.run_id, reason)

    async def check_clock(self) -> None:
        """Follow the clock of the database's server. Make due what was planned by a clock that was set back since."""
        fault = clock_fault(self.context.service.clock_offset)
        if fault and not self.has_warned_of_clock:  # once: the minutes may change
            self.has_warned_of_clock = True
            self.context.warn(fault)
        self.note_gap(clock.utcnow())
        await asyncio.to_thread(self.database.read_clock)
        if self.steady_clock.was_set_back(asyncio.get_running_loop().time()):
            await self.wake_waiting()
            self.wake()

    def note_gap(self, now: datetime) -> None:
        """Called every few seconds: after a longer while, the run has stood still, or begins."""
        if self.checked_at is None or now - self.checked_at > STANDSTILL:
            self.context.awake_since = now
        self.checked_at = now

    async def wake_waiting(self) -> None:
        """Make due at once what waits since an earlier run, or by a clock that was wrong."""
        context = self.context
        await self.database.write(leases.wake_waiting, context.batch_id, clock.utcnow(), context.service.origin)

    async def heed_steering(self) -> None:
        """Heed what a person has set or commanded since the last time, and look for work at once."""
        context, read = self.context, self.database.read
        steering = await read(read_steering, context.batch_id)
        number = await read(statistics.count_active, context.batch_id) if steering.pause else None
        if not (number and context.in_flight_at_pause):  # the notice would change with every job that ends
            context.in_flight_at_pause = number
        if steering.version == self.heeded_version:
            return
        self.heeded_version = steering.version
        context.follow(steering)
        if context.spec.selected and steering.prioritized != self.heeded_order:
            await self.database.write(context.spec.selected.reorder)
        self.heeded_order = steering.prioritized
        self.resize(context.limits_in_force.downloads)
        self.wake()

    def note_awaited_answer(self) -> None:
        """Say which answer of the service the sending waits for, and how long at most."""
        context = self.context
        if context.awaits_prices:
            until = context.began_at + timedelta(seconds=accounting.PRICES_SECONDS)
            reason = "the price list has not come yet, which max_cost needs"
            context.wait_to_submit(reason, until, "the last stored prices count")
        elif context.awaits_history and not context.wait_reason:
            until = context.began_at + timedelta(seconds=LONGER["history"])
            context.wait_to_submit(COMPARING, until, "the run goes on without it")

    async def ask_money(self) -> None:
        """Ask for prices and balance, and warn where the balance is too low for the pending jobs."""
        context = self.context
        balance, _ = await asyncio.gather(context.service.balance(), self.ask_prices())
        if balance is None or not context.prices.listed:
            return
        cost = await context.database.read(context.expected_cost, FORECAST_JOBS)
        if balance < cost:
            has = f"the account has {amount_text(balance)} USD left"
            context.warn(f"{has}; the pending jobs are expected to cost {amount_text(cost)}")

    async def ask_prices(self) -> None:
        """Take over the service's price list; without an answer in time, the stored one counts."""
        context = self.context
        try:
            if prices := await accounting.learn_prices(context.database, context.service, clock.utcnow()):
                context.prices = prices
        finally:
            context.has_prices.set()
            self.wake()

    async def ask_credits(self) -> None:
        """While the account has no credits, ask for its balance at growing intervals, and go on once it is enough."""
        wait, now = self.context.credit_wait, clock.utcnow()
        if not wait.is_due(now):
            return
        balance = await self.context.service.balance()
        choice = await self.context.database.read(self.context.choose, now, 1)
        next_cost = choice.chosen[0].estimated_usd if choice.chosen else choice.next_cost
        if wait.answered(balance, next_cost, clock.utcnow()):
            self.wake()

    async def ask_charges(self, now: datetime) -> bool:
        """Ask for the charges on which everything may wait: they can be late. Whether the run can go on for them."""
        context = self.context
        if context.locked_out:
            return False
        if await accounting.learn_charges(context.database, context.service, context.batch_id, now):
            self.wake()
            return True
        self.charge_requests += 1
        choice = await context.database.read(context.choose, now, 1)
        return choice.hold is Hold.PRICE and self.charge_requests < CHARGE_REQUESTS


async def check_storage(context: RunContext) -> None:
    """Let the run send nothing where a video could not be stored: each new start would buy more.

    A paid video that is not here yet may wait for free disk, so more of it is asked for then.
    """
    read = context.database.read
    waiting = await read(statistics.count, context.batch_id, State.DOWNLOADING)
    outputs = await read(selection.pending_outputs, context.batch_id, context.spec.selected)
    try:
        await object_store.check_stores(outputs)
        await asyncio.to_thread(OutputFolder(context.spec.folder).judge_folders, outputs, SCARCE if waiting else 1)
    except StorageError as error:
        context.refuse(error)
