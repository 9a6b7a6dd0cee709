"""The bill at the end of a run: whether the account was charged what the attempts should cost, within a moment."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from batchgen.billing.books import Books, Tally
from batchgen.billing.reading import add_attempts, read_statement, record
from batchgen.billing.settlements import Settlement
from batchgen.jobs import ChargeSource
from batchgen.jobtable import billing
from batchgen.jobtable.database import Database
from batchgen.limits.accounting import CLOCK_SKEW
from batchgen.services.base import Service
from batchgen.services.statement import StatementBroken

CLOSING_SECONDS = 5.0
"""For all of it: where it takes longer, a run ends without it."""
CLOSING_JOBS = 5_000
"""Of the largest batch that is compared when a run ends: so many charges come within `CLOSING_SECONDS`."""
AWAITED = frozenset({Settlement.UNDERWAY, Settlement.UNCONFIRMED, Settlement.LATE})
"""What time or another run settles, beside what was charged and is still to come."""
CHARGED = (Settlement.DELIVERED, Settlement.REFUNDED, Settlement.REPLACED)
STRANGE = frozenset({Settlement.UNIDENTIFIED, Settlement.UNKNOWN})
DISPUTED = frozenset(settlement for settlement in Settlement if not settlement.closes) - AWAITED - STRANGE


@dataclass(frozen=True, slots=True)
class ClosingBill:
    """How the attempts of a batch stand in the account's transactions; charges of no attempt are left out."""

    charged: int
    charged_usd: Decimal
    awaited: int
    disputed: int


async def closing_bill(
    database: Database, service: Service, batch_id: int, began_at: datetime, now: datetime
) -> ClosingBill | None:
    """Compare the attempts that ended since `began_at` with the account. It collects nothing and reads no log.

    None where the service names charges in another way, or the comparison cannot be had within a moment.
    """
    if service.features.charges is not ChargeSource.LEDGER:
        return None
    with suppress(TimeoutError, StatementBroken), Books() as books:
        async with asyncio.timeout(CLOSING_SECONDS):
            scope = (batch_id, service.account, service.origin)
            since = await database.read(billing.first_intent, *scope, began_at)
            if since is None:
                return None
            statement = await read_statement(service, books, since - CLOCK_SKEW, now + CLOCK_SKEW, None)
            if statement.unreadable:
                return None
            await database.read(add_attempts, service, batch_id, books, since)
            books.judge(now, "it was not read")
            await record(database, books, now)
            return summed(books.tally(), books.to_come())
    return None


def summed(tallies: Mapping[Settlement, Tally], to_come: int) -> ClosingBill:
    charged = [tallies[settlement] for settlement in CHARGED if settlement in tallies]
    return ClosingBill(
        charged=sum(tally.number for tally in charged),
        charged_usd=sum((tally.charged_usd for tally in charged), Decimal(0)),
        awaited=sum(tally.number for settlement, tally in tallies.items() if settlement in AWAITED) + to_come,
        disputed=sum(tally.number for settlement, tally in tallies.items() if settlement in DISPUTED) - to_come,
    )
