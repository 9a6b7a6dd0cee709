"""What a run asks the service about money: the price list, and the charges that no answer named."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import datetime, timedelta
from decimal import Decimal

from batchgen.errors import TableLocked
from batchgen.jobs import ChargeSource
from batchgen.jobtable import ledger, pricelist
from batchgen.jobtable.database import Database
from batchgen.jobtable.ledger import BilledCharge
from batchgen.jobtable.pricelist import PriceList
from batchgen.services.base import Service, TransactionKind
from batchgen.services.statement import StatementBroken, StatementRestarted, read_pages

CLOCK_SKEW = timedelta(minutes=5)
"""How far the service's clock may be from this machine's when a window of transactions is asked for."""
PAGES_MAX = 100  # of transactions that are searched for the charges of a run, some 10,000
PRICES_SECONDS = 60.0  # for the price list; a plug-in has closer bounds of its own


async def refresh_prices(database: Database, service: Service, now: datetime) -> bool:
    """Store the service's price list. False where it cannot be had: the stored one stays."""
    stored = await database.read(pricelist.load, service.name)
    listing = await service.catalogue(stored.etag)
    with suppress(TableLocked):  # a plan is made without it
        if listing:
            await database.write(pricelist.store, service.name, listing, now)
        return listing is not None
    return False


async def learn_prices(database: Database, service: Service, now: datetime) -> PriceList | None:
    """The service's price list, else the last one that is stored. None where no answer comes in time."""
    with suppress(TimeoutError):
        async with asyncio.timeout(PRICES_SECONDS):
            await refresh_prices(database, service, now)
            return await database.read(pricelist.load, service.name)
    return None


async def learn_charges(database: Database, service: Service, batch_id: int, now: datetime) -> bool:
    """Charge ended generations by the service's transactions, where no answer named the charge. True if any was new."""
    if service.features.charges is not ChargeSource.LEDGER:
        return False
    uncharged = await database.read(ledger.uncharged, batch_id, service.origin)
    if not uncharged:
        return False
    amounts = await read_amounts(service, uncharged[0].intent_at - CLOCK_SKEW, now + CLOCK_SKEW)
    # Below zero is a refund whose charge is on a page that did not come.
    charges = [
        BilledCharge(attempt.id, attempt.generation_id, amounts[attempt.generation_id], is_price=True)
        for attempt in uncharged
        if amounts.get(attempt.generation_id, Decimal(-1)) >= 0
    ]
    return bool(charges) and await database.write(ledger.record_bill, charges, now) > 0


async def read_amounts(service: Service, since: datetime, until: datetime) -> dict[str, Decimal]:
    """What each generation was charged less what was refunded, as far as the transactions come."""
    amounts: dict[str, Decimal] = {}
    with suppress(StatementBroken, StatementRestarted):  # what was read counts, and the rest is asked for again
        async for page in read_pages(service, since, until, pages_max=PAGES_MAX):
            for row in page.rows:
                if row.generation_id and row.kind is not TransactionKind.OTHER:
                    amounts[row.generation_id] = amounts.get(row.generation_id, Decimal(0)) + row.signed_usd
    return amounts
