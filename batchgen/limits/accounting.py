"""What a run asks the service about money: the price list, charges that no answer named, and whether a top-up came."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from batchgen.catalogue.amounts import amount_text
from batchgen.errors import TableLocked
from batchgen.jobs import ChargeSource
from batchgen.jobtable import ledger, pricelist
from batchgen.jobtable.database import Database
from batchgen.jobtable.ledger import BilledCharge
from batchgen.jobtable.pricelist import PriceList
from batchgen.limits.rate import backoff
from batchgen.services.base import Service, TransactionKind
from batchgen.services.outcomes import Blocked
from batchgen.services.statement import StatementBroken, StatementRestarted, read_pages

CLOCK_SKEW = timedelta(minutes=5)
"""How far the service's clock may be from this machine's when a window of transactions is asked for."""
PAGES_MAX = 100  # of transactions that are searched for the charges of a run, some 10,000
PRICES_SECONDS = 60.0  # for the price list; a plug-in has closer bounds of its own
TOP_UP_FIRST_SECONDS = 30.0  # between two questions: the backoff begins so, since a top-up takes a person a minute
TOP_UP_LONGEST_SECONDS = 300.0  # of the backoff: a topped-up account must not stay unnoticed for longer


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


@dataclass(slots=True)
class CreditWait:
    """Whether a run waits for credits. It sends nothing meanwhile, and one request at a time after it."""

    refusal: Blocked | None = None
    """The service's refusal, while the run waits."""
    refusals: int = 0
    """In a row, without an accepted request: a plan's limit refuses although the balance is high enough."""
    questions: int = 0
    next_at: datetime | None = None
    balance: Decimal | None = None
    """USD, as the service said last."""
    next_cost: Decimal | None = None
    """USD that the next job is expected to cost."""

    def refused(self, refusal: Blocked, now: datetime) -> None:
        """A request was refused for want of credits."""
        if self.refusal is None:
            self.refusal, self.refusals, self.questions = refusal, self.refusals + 1, 0
            self.postpone(now)

    def accepted(self) -> None:
        """A request was accepted, so that there are credits."""
        self.refusals = 0

    def is_due(self, now: datetime) -> bool:
        return self.refusal is not None and self.next_at is not None and now >= self.next_at

    def answered(self, balance: Decimal | None, next_cost: Decimal | None, now: datetime) -> bool:
        """Take the balance that the service says, or None where it says none. Whether the run goes on.

        Without a balance, or without a price, one request tries: a refusal costs nothing.
        """
        before, self.balance, self.next_cost = self.balance, balance, next_cost
        if balance is None:
            goes_on = True
        elif next_cost is not None:
            goes_on = balance >= next_cost
        else:
            goes_on = before is None or balance > before
        if goes_on:
            self.refusal = self.next_at = None
        else:
            self.postpone(now)
        return goes_on

    def postpone(self, now: datetime) -> None:
        self.questions += 1
        self.next_at = now + backoff(max(self.questions, self.refusals), TOP_UP_FIRST_SECONDS, TOP_UP_LONGEST_SECONDS)

    def __str__(self) -> str:
        """What the run waits for, in words."""
        parts = [f"it has {amount_text(self.balance)} USD" if self.balance is not None else ""]
        parts.append(f"the next job costs {amount_text(self.next_cost)}" if self.next_cost is not None else "")
        amounts = ", ".join(filter(None, parts))
        return f"the account has no credits left{f' ({amounts})' if amounts else ''}"
