"""Reads both sides of a reconciliation into its books: the account's statement, the service's log, the job table."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial

from sqlalchemy import Connection

from batchgen.billing.books import Books
from batchgen.billing.settlements import CHARGE_LAG
from batchgen.jobtable import billing, ledger
from batchgen.jobtable.database import Database
from batchgen.limits.accounting import CLOCK_SKEW
from batchgen.services.base import History, Service, Transaction, TransactionKind
from batchgen.services.outcomes import Unavailable
from batchgen.services.statement import Pause, StatementBroken, StatementRestarted, ask_patiently, read_pages

RESTARTS = 3
"""How often the pages are read from the first again, because the service does not take a cursor of its own."""
LOG_WINDOW = timedelta(days=90)
"""How far back the service's log is read: services keep about three months, and refuse to be asked for more."""
LOG_ANSWERS_MAX = 10_000  # some hundred million requests: a log that leads nowhere must end somewhere


@dataclass(slots=True)
class Statement:
    """What the account's transactions add up to. Amounts in USD."""

    transactions: int = 0
    unreadable: int = 0
    charged_usd: Decimal = Decimal(0)
    """Charges less refunds."""
    balance_usd: Decimal = Decimal(0)
    """Payments and all else that changes the balance."""

    def add(self, row: Transaction) -> None:
        self.transactions += 1
        if row.kind is TransactionKind.OTHER:
            self.balance_usd += row.amount_usd
        else:
            self.charged_usd += row.signed_usd


async def read_statement(
    service: Service, books: Books, start: datetime, end: datetime, pause: Pause | None
) -> Statement:
    """Read all transactions between two moments. Raises `StatementBroken`. Without `pause` no request is repeated."""
    for _ in range(RESTARTS):
        statement = Statement()
        books.forget_transactions()
        with suppress(StatementRestarted):
            async for page in read_pages(service, start, end, pause):
                books.add_transactions(page.rows)
                statement.unreadable += page.unreadable
                for row in page.rows:
                    statement.add(row)
            return statement
    raise StatementBroken(Unavailable("the service refuses the cursors that it gave"))


async def read_log(service: Service, books: Books, start: datetime, now: datetime, pause: Pause) -> str:
    """Read the service's log, newest first. Returns why it was not read to its end; "" if it was."""
    since, until = max(start, now - LOG_WINDOW), now + CLOCK_SKEW
    for _ in range(LOG_ANSWERS_MAX):
        answer = await ask_patiently(partial(service.history, since, until), pause)
        if answer is None:
            return "this service keeps no log of requests"
        if not isinstance(answer, History):
            return f"the log could not be read: {answer.reason}"
        books.add_log(answer.generations)
        if answer.since <= since:
            return "" if since == start else f"the log reaches back to {since:%Y-%m-%d} only"
        if answer.since >= until:
            break
        until = answer.since
    return "the log cannot be read to its end"


def read_table(connection: Connection, service: Service, batch_id: int, books: Books, start: datetime) -> None:
    """Copy what the job table has: the batch's attempts and jobs, and the generations of other batches."""
    add_attempts(connection, service, batch_id, books)
    for rows in billing.other_generations(connection, batch_id, start - CHARGE_LAG):
        books.add_foreign_generations(rows)
    for rows in billing.digits_of_jobs(connection, batch_id):
        books.add_jobs(rows)


def add_attempts(
    connection: Connection, service: Service, batch_id: int, books: Books, since: datetime | None = None
) -> None:
    for rows in billing.attempts_of(connection, batch_id, service.account, service.origin, since):
        books.add_attempts(rows)


async def record(database: Database, books: Books, now: datetime) -> int:
    """Make the attempts cost what the account was charged for them. Returns how many changed."""
    charged = [await database.write(ledger.record_bill, charges, now) for charges in books.bill()]
    return sum(charged) + await database.write(ledger.record_absence, books.absent())
