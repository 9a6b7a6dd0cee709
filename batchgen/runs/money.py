"""What a run asks the service about money, beside its stages: prices, the balance, late charges, a top-up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime

from batchgen import clock
from batchgen.context import RunContext
from batchgen.limits import accounting
from batchgen.limits.budget import Hold

CHARGE_REQUESTS = 10  # for a charge on which everything waits, a second apart


class Money:
    """The questions of one run. `wake` lets its scheduler look again."""

    def __init__(self, context: RunContext, wake: Callable[[], None]) -> None:
        self.context, self.wake = context, wake
        self.has_prices = asyncio.Event()
        """Set once the price list has come, or is not to be had."""
        self.charge_requests = 0
        self.balance_warning = ""

    async def ask(self) -> None:
        """Ask for prices and balance, and warn where the balance is too low for the pending jobs."""
        context = self.context
        balance, _ = await asyncio.gather(context.service.balance(), self.ask_prices())
        self.balance_warning = await accounting.balance_warning(
            context.database, balance, context.batch_id, context.terms_in_force, context.prices
        )
        context.warn(self.balance_warning)

    async def ask_prices(self) -> None:
        """Take over the service's price list; without an answer in time, the stored one counts."""
        context = self.context
        try:
            if prices := await accounting.learn_prices(context.database, context.service, clock.utcnow()):
                context.prices = prices
        finally:
            context.awaits_prices = False
            self.has_prices.set()
            self.wake()

    async def ask_credits(self) -> None:
        """While the account has no credits, ask for its balance at growing intervals, and go on once it is enough."""
        wait, now = self.context.credit_wait, clock.utcnow()
        if not wait.is_due(now):
            return
        balance = await self.context.service.balance()
        if self.balance_warning:  # The wait says what the account has now.
            self.context.warning = self.context.warning.replace(self.balance_warning, "").strip("; ")
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
