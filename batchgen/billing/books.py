"""The two sides of a reconciliation in one scratch database: attempts of the job table, transactions of the account.

SQLite keeps it in a nameless temporary file, so a hundred thousand rows of either side need little memory. Amounts are
whole billionths of a dollar there.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import Row

from batchgen.billing import queries
from batchgen.billing.settlements import (
    CHARGE_LAG,
    PLACES,
    BilledAttempt,
    Settlement,
    UnmatchedTransaction,
    Usd,
    judge_attempt,
    judge_unmatched,
    usd,
)
from batchgen.jobs import Outcome, State
from batchgen.jobtable.fingerprint import digits_of
from batchgen.jobtable.ledger import NAMED_BY_SERVICE, BilledCharge
from batchgen.limits.accounting import CLOCK_SKEW
from batchgen.services.base import PastGeneration, Transaction

ROWS_AT_ONCE = 2_000  # in memory, of what is judged or billed


@dataclass(frozen=True, slots=True)
class Tally:
    """How many attempts, or charges without one, and what they were charged, in USD."""

    number: int
    charged_usd: Decimal


@dataclass(frozen=True, slots=True)
class OpenItem:
    """An attempt, a charge without one, or a logged request without one, that does not close."""

    settlement: Settlement
    at: datetime
    id: str | None
    """The manifest's id of the job; None where no job is known."""
    attempt: int | None
    state: str | None
    generation_id: str | None
    model: str | None
    charged_usd: Usd | None
    expected_usd: Usd | None
    note: str


ATTEMPT_OF, TRANSACTION_OF = TypeAdapter(BilledAttempt), TypeAdapter(UnmatchedTransaction)
ITEM_OF = TypeAdapter(OpenItem)
"""What makes these of a row, whose columns have the names of their fields."""


class Books(AbstractContextManager["Books"]):
    """Both sides of one reconciliation. A context manager; the rows are gone when it is left."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("", check_same_thread=False, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        self._db.create_function("digits_of", 1, lambda request: request and digits_of(request), deterministic=True)
        self._db.executescript(f"PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; {queries.SCHEMA}")

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def add_transactions(self, rows: Iterable[Transaction]) -> None:
        values = (
            (timestamp(row.at), row.kind, row.type, row.model, row.generation_id, nano(row.signed_usd)) for row in rows
        )
        self._insert(queries.INSERT_TRANSACTION, values)

    def forget_transactions(self) -> None:
        self._db.execute("DELETE FROM transactions")

    def add_attempts(self, rows: Iterable[Row[Any]]) -> None:
        self._insert(queries.INSERT_ATTEMPT, map(attempt_values, rows))

    def forget_attempts(self) -> None:
        """Empty the side of the job table: its attempts have changed and are read again."""
        self._db.executescript("DELETE FROM billed; DELETE FROM unclaimed;")

    def take_costs_for_charges(self) -> None:
        """Let the costs of the attempts stand for charges: the service lists none."""
        self.forget_transactions()
        self._db.execute(queries.FROM_TABLE)

    def add_foreign_generations(self, rows: Iterable[Row[Any]]) -> None:
        self._insert("INSERT OR IGNORE INTO others VALUES (?, ?)", map(tuple, rows))

    def add_jobs(self, rows: Iterable[Row[Any]]) -> None:
        self._insert("INSERT INTO job_digits VALUES (?, ?, ?)", map(tuple, rows))

    def add_log(self, rows: Iterable[PastGeneration]) -> None:
        values = (
            (row.client_request_id, row.generation_id, timestamp(row.accepted_at), row.is_certain) for row in rows
        )
        self._insert("INSERT OR IGNORE INTO log VALUES (?, ?, ?, ?)", values)

    def settle(self, now: datetime, log_fault: str) -> None:
        """Give every attempt its settlement, and every transaction and logged request that belongs to none.

        `log_fault` says why the log was not read to its end; "" if it was.
        """
        self._db.executescript(queries.INDEXES)
        self._db.executescript(f"{queries.FORGET_SETTLEMENTS}; {queries.FROM_LOG}; {queries.UNCLAIMED};")
        for rows in self._read(queries.UNMATCHED):
            unmatched = []
            for row in rows:
                settlement, note = judge_unmatched(TRANSACTION_OF.validate_python(dict(row)), now, log_fault)
                # Its job only where the request is known to be of it.
                job = (row["key"], row["state"]) if settlement is Settlement.UNKNOWN else (None, None)
                unmatched.append((settlement, note, *job, row["n"]))
            self._insert(queries.SET_UNMATCHED, unmatched)
        # Afterwards: a charge that nobody else made may be that of an attempt whose answer was lost.
        for rows in self._read(queries.BILLED):
            attempts = (
                (*judge_attempt(ATTEMPT_OF.validate_python(dict(row)), now, log_fault), row["id"]) for row in rows
            )
            self._insert(queries.SET_SETTLEMENT, attempts)
        self._db.execute(queries.NOTE_LIKELY_JOBS)

    def tally(self) -> dict[Settlement, Tally]:
        """How many attempts, and charges without one, have each settlement, and what they were charged."""
        rows = self._db.execute(queries.TALLY)
        numbers = {Settlement(row["settlement"]): Tally(row["number"], usd(row["nanousd"])) for row in rows}
        return {settlement: numbers[settlement] for settlement in Settlement if settlement in numbers}

    def rows(self) -> Iterator[sqlite3.Row]:
        """A row for each transaction, and for each attempt or logged request without one, by time."""
        return self._db.execute(queries.ROWS)

    def open_items(self) -> Iterator[OpenItem]:
        """What does not close, by settlement and then by time."""
        for row in self._db.execute(queries.OPEN_ITEMS):
            yield ITEM_OF.validate_python(dict(row))

    def bill(self) -> Iterator[list[BilledCharge]]:
        """What the account was charged for attempts that the table has otherwise, some at a time."""
        for rows in self._read(queries.BILL):
            yield [
                BilledCharge(row["id"], row["generation"], usd(row["net"]), Settlement(row["settlement"]).shows_price)
                for row in rows
            ]

    def absent(self) -> list[int]:
        """The row ids of attempts whose answer was lost, and that the service never had."""
        rows = self._db.execute("SELECT id FROM billed WHERE lost AND settlement = ?", (Settlement.NOTHING_CHARGED,))
        return [row["id"] for row in rows]

    def uncollected(self) -> dict[str, State]:
        """The keys of the jobs that were charged and are not delivered, and where each stands."""
        sql = "SELECT key, state FROM billed WHERE settlement = ? ORDER BY id"
        return {row["key"]: State(row["state"]) for row in self._db.execute(sql, (Settlement.NOT_DELIVERED,))}

    def _insert(self, sql: str, values: Iterable[tuple[Any, ...]]) -> None:
        self._db.execute("BEGIN")
        self._db.executemany(sql, values)
        self._db.execute("COMMIT")

    def _read(self, sql: str) -> Iterator[list[sqlite3.Row]]:
        cursor = self._db.execute(sql)
        while rows := cursor.fetchmany(ROWS_AT_ONCE):
            yield rows


def nano(amount: Decimal | None) -> int | None:
    """USD as a whole number of billionths."""
    return None if amount is None else int(amount.scaleb(PLACES))


def timestamp(moment: datetime | None) -> str | None:
    """A moment as text of a fixed width, so that it sorts."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds") if moment else None


def attempt_values(row: Row[Any]) -> tuple[Any, ...]:
    """The values of an attempt in the order of the columns of `billed`.

    Its `named` cost is what the service said before its transactions did: the quote, or a cost that no bill has set.
    """
    quote = row.cost_usd if row.quoted_usd is None and row.charge_source in NAMED_BY_SERVICE else row.quoted_usd
    return (
        *(row.id, row.key, row.number, row.model, row.state, row.outcome, row.generation_id, row.client_request_id),
        *(timestamp(row.intent_at), timestamp(row.finished_at), timestamp(row.deadline_at)),
        *(nano(row.cost_usd), nano(quote), nano(row.estimated_usd)),
        *(timestamp(row.intent_at - CLOCK_SKEW), timestamp(row.deadline_at + CHARGE_LAG)),
        *(Outcome(row.outcome).is_undecided, bool(row.is_of_account), bool(row.is_delivered), bool(row.is_current)),
    )
