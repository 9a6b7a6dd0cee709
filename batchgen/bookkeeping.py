"""What a run asks the service about money: the price list, the charges that no answer told, the balance."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

from batchgen.jobtable import money, pricelist
from batchgen.jobtable.columns import plain
from batchgen.limits import budget
from batchgen.stage import RunContext

CLOCK_SKEW = timedelta(minutes=5)  # between this machine and the service
FORECAST_JOBS = 1_000  # of those that wait: enough to see that a balance is low, and soon read


async def learn_prices(context: RunContext, now: datetime) -> None:
    """Take the service's price list, or the last one that is known."""
    name, read = context.service.name, context.database.read
    last = await read(pricelist.known, name)
    if listing := await context.service.catalogue(last.etag):
        await context.database.write(pricelist.keep, name, listing, now)
        last = await read(pricelist.known, name)
    context.prices = last


async def learn_charges(context: RunContext, now: datetime) -> bool:
    """Settle what has ended and whose charge no answer told, by its transactions. True where there is news."""
    unknown = await context.database.read(money.uncharged, context.batch_id)
    if not unknown or context.locked_out:
        return False
    charges = await context.service.charges(unknown[0].sent_at - CLOCK_SKEW, now + CLOCK_SKEW)
    told = [(each, charges[each.generation_id]) for each in unknown if each.generation_id in charges]
    return bool(told) and await context.database.write(money.charge, told) > 0


async def compare_balance(context: RunContext, balance: Decimal | None, now: datetime) -> None:
    """Warn where the account has less than what waits is expected to cost, as far as that is known."""
    if balance is None or not context.prices.listed:
        return
    needed = await context.database.read(
        budget.forecast, context.batch_id, now, context.terms, context.prices, FORECAST_JOBS
    )
    if balance < needed:
        context.warning = f"the account has {plain(balance)} USD left; what waits is expected to cost {plain(needed)}"
