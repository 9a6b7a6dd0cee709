"""The ledger: every attempt with what it cost or may cost, and the batch's running totals over them.

The totals stand in the batch's row and change in the transaction that changes an attempt: a claim sums nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from operator import attrgetter
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, bindparam, func, select, text

from batchgen.jobs import UNDECIDED, ChargeSource, Job, Outcome
from batchgen.jobtable import pricelist
from batchgen.jobtable.joins import ATTEMPT_IS_UNCHARGED, ATTEMPTS, IN_BATCH, IS_DELIVERED
from batchgen.jobtable.schema import attempts, batches, jobs, outputs
from batchgen.jobtable.transition import Increment, guarded_update

ZERO = Decimal(0)
NAMED_BY_SERVICE = (ChargeSource.ANSWER, ChargeSource.POLL, ChargeSource.LOG)
"""Sources of a cost that the service has named for one generation, before its transactions list the charge."""


@dataclass(frozen=True, slots=True)
class Totals:
    """USD spent, USD reserved for attempts whose charge is not known yet, and the number of those without a price."""

    spent: Decimal = ZERO
    reserved: Decimal = ZERO
    unpriced: int = 0

    @property
    def committed(self) -> Decimal:
        """What counts against the cap."""
        return self.spent + self.reserved

    def __add__(self, other: Totals) -> Totals:
        return Totals(self.spent + other.spent, self.reserved + other.reserved, self.unpriced + other.unpriced)

    def __sub__(self, other: Totals) -> Totals:
        return Totals(self.spent - other.spent, self.reserved - other.reserved, self.unpriced - other.unpriced)


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One attempt in the ledger. Amounts in USD."""

    batch_id: int
    service: str
    model: str
    outcome: Outcome
    estimated_usd: Decimal | None
    cost_usd: Decimal | None = None

    @property
    def totals(self) -> Totals:
        """Its share of the batch's totals: its charge; before that is known, its estimate if it may be paid."""
        if self.cost_usd is not None:
            return Totals(spent=self.cost_usd)
        return reservation(self.estimated_usd) if self.outcome.may_be_paid else Totals()


def reservation(estimated_usd: Decimal | None) -> Totals:
    """What an attempt adds to the totals while its charge is unknown: its estimate, or one attempt without a price."""
    return Totals(unpriced=1) if estimated_usd is None else Totals(reserved=estimated_usd)


def totals(connection: Connection, batch_id: int) -> Totals:
    return Totals(*connection.execute(TOTALS, {"in_batch": batch_id}).one())


def reserve(connection: Connection, batch_id: int, estimates: Sequence[Decimal | None]) -> None:
    """Add attempts that begin now to the totals, by their estimates."""
    add_to_totals(connection, batch_id, sum(map(reservation, estimates), Totals()))


def update_attempt(
    connection: Connection,
    attempt_id: int,
    outcomes: Collection[Outcome],
    values: Mapping[str, Any],
    entry: LedgerEntry | None = None,
    *,
    is_price: bool = True,
) -> bool:
    """Change an attempt and the totals with it. False, and nothing is changed, unless its outcome is one of `outcomes`.

    `entry` is the attempt as it stands; None: it is read. `is_price`: its cost shows what the model costs. That of a
    generation that was charged twice does not.
    """
    entry = entry or next(entries(connection, attempts.c.id == attempt_id), None)
    if entry is None or entry.outcome not in outcomes:
        return False
    if not guarded_update(connection, attempts, {"id": attempt_id, "outcome": entry.outcome}, values):
        return False
    changed = {name: values[name] for name in ("outcome", "estimated_usd", "cost_usd") if name in values}
    after = replace(entry, **changed)
    add_to_totals(connection, entry.batch_id, after.totals - entry.totals)
    # A charge equal to the estimate is the listed price, or the highest charge already; one that stood is kept already.
    if is_price and after.cost_usd and after.cost_usd not in (after.estimated_usd, entry.cost_usd):
        # What was expected may itself be a charge, and be the listed price of other requests.
        quote = pricelist.quote_of(connection, entry.service, attempt_id)
        listed = after.estimated_usd if quote is None else quote
        pricelist.keep_charge(connection, entry.service, entry.model, attempt_id, after.cost_usd, listed)
    return True


def entry_of(job: Job, outcome: Outcome) -> LedgerEntry:
    """The attempt of a job that this run holds, with the outcome that it must have by now."""
    attempt = job.attempt
    return LedgerEntry(job.batch_id, job.service, job.model, outcome, attempt.estimated_usd, attempt.cost_usd)


def entries(connection: Connection, condition: ColumnElement[bool]) -> Iterator[LedgerEntry]:
    return (LedgerEntry(*row) for row in connection.execute(ENTRIES.where(condition)))


def add_to_totals(connection: Connection, batch_id: int, change: Totals) -> None:
    if change != Totals():
        amounts = {
            "spent_nanousd": Increment(change.spent),
            "reserved_nanousd": Increment(change.reserved),
            "unpriced": Increment(change.unpriced),
        }
        guarded_update(connection, batches, {"id": batch_id}, amounts)


def move_totals(connection: Connection, job_id: int, left: int, entered: int) -> None:
    """A job leaves a batch for another, and what it has cost and delivered counts there."""
    amount = sum((entry.totals for entry in entries(connection, jobs.c.id == job_id)), Totals())
    size = delivered_bytes(connection, jobs.c.id == job_id)
    for batch_id, change, bytes_ in ((left, Totals() - amount, -size), (entered, amount, size)):
        add_to_totals(connection, batch_id, change)
        guarded_update(connection, batches, {"id": batch_id}, {"delivered_bytes": Increment(bytes_)})


def delivered_bytes(connection: Connection, of_jobs: ColumnElement[bool]) -> int:
    """The size of all files that were ever delivered for these jobs."""
    size = select(func.coalesce(func.sum(outputs.c.bytes), 0)).select_from(ATTEMPTS).join(outputs)
    return int(connection.execute(size.where(of_jobs, IS_DELIVERED)).scalar_one())


def uncharged(connection: Connection, batch_id: int, origin: str = "") -> list[Row[Any, Any, Any]]:
    """The ended generations whose charges are to be looked up in the transactions of the service at `origin`.

    Of each, the id of its attempt, its own id, and when it was sent; oldest first.
    """
    rows = connection.execute(UNCHARGED, {"in_batch": batch_id, "this_origin": origin}).all()
    return sorted(rows, key=attrgetter("intent_at"))


@dataclass(frozen=True, slots=True)
class BilledCharge:
    """What the account was charged for an attempt, in USD."""

    attempt_id: int
    generation_id: str
    """By the attempt itself, or, where its answer was lost, by the service's log."""
    charged_usd: Decimal
    is_price: bool
    """Whether it is the usual price: not that of a generation that was charged twice."""


def record_bill(connection: Connection, bill: Sequence[BilledCharge], now: datetime) -> int:
    """Make attempts cost what the account was charged for them. Returns how many were changed.

    What the service had named before is kept as `quoted_usd`. A charged attempt whose answer was lost was accepted.
    """
    changed = 0
    for charge in bill:
        row = connection.execute(select(attempts).where(attempts.c.id == charge.attempt_id)).one()
        if row.cost_usd == charge.charged_usd:
            continue
        values: dict[str, Any] = {"cost_usd": charge.charged_usd, "charge_source": ChargeSource.LEDGER}
        if row.quoted_usd is None and row.charge_source in NAMED_BY_SERVICE:
            values["quoted_usd"] = row.cost_usd
        if row.outcome != Outcome.ACCEPTED:
            if is_owned_elsewhere(connection, charge.attempt_id, charge.generation_id):
                continue
            values |= {"outcome": Outcome.ACCEPTED, "generation_id": charge.generation_id}
            values["released_at"] = row.released_at or now
        changed += update_attempt(connection, charge.attempt_id, tuple(Outcome), values, is_price=charge.is_price)
    return changed


def is_owned_elsewhere(connection: Connection, attempt_id: int, generation_id: str) -> bool:
    """Whether another attempt of the same service and account has this generation."""
    params = {"of_attempt": attempt_id, "with_id": generation_id}
    return connection.execute(OTHER_OWNER, params).first() is not None


def record_absence(connection: Connection, attempt_ids: Sequence[int]) -> int:
    """These attempts are neither in the service's log nor in the account: they cost nothing. How many were changed."""
    return sum(
        update_attempt(connection, attempt_id, UNDECIDED, {"outcome": Outcome.ABSENT}) for attempt_id in attempt_ids
    )


def spend_by_model(connection: Connection, batch_id: int) -> dict[str, Decimal]:
    """What the attempts of a batch were charged, by model, in USD. All attempts count, so the sum is the bill."""
    sums: dict[str, Decimal] = {}
    charged = select(attempts.c.model, attempts.c.cost_usd).select_from(ATTEMPTS)
    charged = charged.where(IN_BATCH, attempts.c.cost_usd.is_not(None))
    for model, cost in connection.execute(charged, {"in_batch": batch_id}):
        sums[model] = sums.get(model, ZERO) + cost
    return sums


TOTALS = select(batches.c.spent_nanousd, batches.c.reserved_nanousd, batches.c.unpriced).where(
    batches.c.id == bindparam("in_batch")
)

ENTRIES = select(
    *(jobs.c.batch_id, attempts.c.service, attempts.c.model),
    *(attempts.c.outcome, attempts.c.estimated_usd, attempts.c.cost_usd),
).select_from(ATTEMPTS)

_own = attempts.alias("own")
OTHER_OWNER = select(attempts.c.id).where(
    attempts.c.generation_id == bindparam("with_id"),
    attempts.c.id != _own.c.id,
    _own.c.id == bindparam("of_attempt"),
    attempts.c.service == _own.c.service,
    attempts.c.account == _own.c.account,
)

# Attempts whose generation has not ended are left out: the poll that sees the end may name the charge.
UNCHARGED = (
    select(attempts.c.id, attempts.c.generation_id, attempts.c.intent_at)
    .where(
        text(ATTEMPT_IS_UNCHARGED),
        attempts.c.finished_at.is_not(None) | attempts.c.released_at.is_not(None),
        attempts.c.origin.in_(["", bindparam("this_origin")]),
        select(jobs.c.id).where(jobs.c.id == attempts.c.job_id, jobs.c.batch_id == bindparam("in_batch")).exists(),
    )
    .order_by(attempts.c.job_id)
)
