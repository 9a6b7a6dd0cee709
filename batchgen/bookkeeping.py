"""What a run asks the service about money: the price list, the charges that no answer told, the balance."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

from batchgen.jobtable import money, pricelist
from batchgen.jobtable.columns import plain
from batchgen.limits import budget
from batchgen.stage import Work

CLOCK_SKEW = timedelta(minutes=5)  # between this machine and the service
FORECAST_JOBS = 1_000  # of those that wait: enough to see that a balance is low, and soon read


async def learn_prices(work: Work, now: datetime) -> None:
    """Take the service's price list, or the last one that is known."""
    name, read = work.service.name, work.database.read
    last = await read(pricelist.known, name)
    if listing := await work.service.catalogue(last.etag):
        await work.database.write(pricelist.keep, name, listing, now)
        last = await read(pricelist.known, name)
    work.prices = last


async def learn_charges(work: Work, now: datetime) -> bool:
    """Settle what has ended and whose charge no answer told, by its transactions. True where there is news."""
    unknown = await work.database.read(money.uncharged, work.batch_id)
    if not unknown or work.locked_out:
        return False
    charges = await work.service.charges(unknown[0].sent_at - CLOCK_SKEW, now + CLOCK_SKEW)
    told = [(each, charges[each.generation_id]) for each in unknown if each.generation_id in charges]
    return bool(told) and await work.database.write(money.charge, told) > 0


async def weigh_balance(work: Work, balance: Decimal | None, now: datetime) -> None:
    """Warn where the account has less than what waits is expected to cost, as far as that is known."""
    if balance is None or not work.prices.listed:
        return
    needed = await work.database.read(budget.forecast, work.batch_id, now, work.terms, work.prices, FORECAST_JOBS)
    if balance < needed:
        work.warning = f"the account has {plain(balance)} USD left; what waits is expected to cost {plain(needed)}"
