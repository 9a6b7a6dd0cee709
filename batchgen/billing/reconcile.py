"""Reconciles a batch with its account: reads both sides, judges them, collects what was paid for, records what it cost.

Running it again changes nothing that the account has not changed. `closing_bill` is the short form at the end of a run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path

from batchgen import clock
from batchgen.billing.books import Books, Tally
from batchgen.billing.collect import collect
from batchgen.billing.reading import Statement, add_attempts, read_log, read_statement, read_table, record
from batchgen.billing.settlements import Settlement
from batchgen.errors import AccountError, BatchgenError, ServiceUnreachable
from batchgen.jobs import ChargeSource
from batchgen.jobtable import billing
from batchgen.jobtable.batches import StoredBatch
from batchgen.jobtable.database import Database
from batchgen.limits.accounting import CLOCK_SKEW
from batchgen.services.base import Service
from batchgen.services.statement import StatementBroken
from batchgen.stage import wait_for

CLOSING_SECONDS = 5.0
"""For the bill at the end of a run: where it takes longer, the run ends without it."""
CLOSING_JOBS = 5_000
"""Of the largest batch that is compared when a run ends: so many charges come within `CLOSING_SECONDS`."""
AWAITED = frozenset({Settlement.UNDERWAY, Settlement.UNCONFIRMED, Settlement.LATE})
"""What time or another run settles, beside what was charged and is still to come."""
CHARGED = (Settlement.DELIVERED, Settlement.REFUNDED, Settlement.REPLACED)
"""What a run was charged, as it should be."""
STRANGE = frozenset({Settlement.UNIDENTIFIED, Settlement.UNKNOWN})
"""Charges of no attempt, which need not be of this batch."""
DISPUTED = frozenset(settlement for settlement in Settlement if not settlement.closes) - AWAITED - STRANGE
"""What a person has to look into."""


@dataclass(slots=True)
class BillComparison:
    """How a batch and its account agree."""

    since: datetime
    """When the batch's first request was sent: before it, nothing was read."""
    statement: Statement
    is_listed: bool
    """Whether the service lists transactions; otherwise the costs that the job table knows stand for them."""
    log_fault: str
    """Why the service's log was not read to its end; "" if it was."""
    tallies: dict[Settlement, Tally] = field(default_factory=dict)
    collected: list[str] = field(default_factory=list)
    """The jobs that were charged and not delivered, for which the service was asked."""
    stop: BatchgenError | None = None
    """Why no more of them can be collected before a person has mended something."""
    recorded: int = 0
    """Attempts whose cost the transactions have changed."""

    @property
    def open(self) -> int:
        """How many attempts and charges do not close."""
        return sum(tally.number for settlement, tally in self.tallies.items() if not settlement.closes)

    @property
    def closes(self) -> bool:
        return not self.open and not self.statement.unreadable


async def reconcile(
    database: Database,
    service: Service,
    batch: StoredBatch,
    folder: Path,
    books: Books,
    tell: Callable[[str], object] = lambda _sentence: None,
) -> BillComparison | None:
    """Compare a batch with its account, collect what was paid for, and record what it cost.

    `tell` is called with what a person waits for. None where nothing was sent with this account. Raises `AccountError`,
    `ServiceUnreachable` where the transactions cannot be read to their end: then nothing has been changed.
    """
    since = await database.read(billing.first_intent, batch.id, service.account, service.origin)
    if since is None:
        return None
    comparison = await read_both_sides(database, service, batch.id, books, since, tell)
    await settle_and_record(database, books, comparison)
    if keys := books.uncollected():
        tell(f"{len(keys)} paid and not here: asking the service for what was made")
        comparison.collected, comparison.stop = await collect(database, service, batch, folder, keys)
        books.forget_attempts()
        await database.read(add_attempts, service, batch.id, books)
        await settle_and_record(database, books, comparison)
    comparison.tallies = books.tally()
    return comparison


async def read_both_sides(
    database: Database, service: Service, batch_id: int, books: Books, since: datetime, tell: Callable[[str], object]
) -> BillComparison:
    """Read the service's log, the account's transactions and the job table into the books."""

    async def pause(seconds: float, reason: str) -> None:
        tell(f"no answer yet ({reason}); asking again in {seconds:.0f} s")
        await wait_for(asyncio.Event(), seconds)

    start, is_listed = since - CLOCK_SKEW, True
    tell(f"reading the account's log and transactions since {since.astimezone():%Y-%m-%d %H:%M}")
    await service.balance()  # Its answer shows how far the service's clock is from this machine's.
    log_fault = await read_log(service, books, start, clock.utcnow(), pause)
    try:
        statement = await read_statement(service, books, start, clock.utcnow() + CLOCK_SKEW, pause)
    except StatementBroken as error:
        if error.answer is not None:
            raise statement_error(error, service) from error
        is_listed, statement = False, Statement()
    await database.read(read_table, service, batch_id, books, start)
    return BillComparison(since, statement, is_listed, log_fault)


async def settle_and_record(database: Database, books: Books, comparison: BillComparison) -> None:
    """Settle all that is in the books; where the service lists what it charged, record that as the attempts' costs."""
    if not comparison.is_listed:
        books.take_costs_for_charges()
    now = clock.utcnow()
    books.settle(now, comparison.log_fault)
    if comparison.is_listed and not comparison.statement.unreadable:
        comparison.recorded += await record(database, books, now)


def statement_error(error: StatementBroken, service: Service) -> BatchgenError:
    """What a person does about transactions that cannot be read."""
    answer = error.answer
    if answer and answer.http_status in (401, 402, 403):
        return AccountError(
            f"the service does not show this key the account's transactions ({error}). Nothing has been changed.\n"
            f"Set a {service.variables.key} that may read them; a management key may not."
        )
    return ServiceUnreachable(
        f"the account's transactions could not be read to their end: {error}.\n"
        "Nothing has been changed: run the same command again later."
    )


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
            books.settle(now, "it was not read")
            await record(database, books, now)
            to_come = sum(state.is_active for state in books.uncollected().values())
            return summed_bill(books.tally(), to_come)
    return None


def summed_bill(tallies: Mapping[Settlement, Tally], to_come: int) -> ClosingBill:
    """The tallies in four numbers. `to_come` of the disputed attempts are still brought to their end."""
    charged = [tallies[settlement] for settlement in CHARGED if settlement in tallies]
    return ClosingBill(
        charged=sum(tally.number for tally in charged),
        charged_usd=sum((tally.charged_usd for tally in charged), Decimal(0)),
        awaited=sum(tally.number for settlement, tally in tallies.items() if settlement in AWAITED) + to_come,
        disputed=sum(tally.number for settlement, tally in tallies.items() if settlement in DISPUTED) - to_come,
    )
