"""What a batch has spent, and what is reserved for requests whose charge is not known yet.

The attempts are the ledger; their sums stand in the batch's row and change in the transaction that changes an attempt,
so that a claim can hold its estimate against the cap without adding anything up. `reckon` adds everything up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, text, update

from batchgen.jobs import State
from batchgen.jobtable.guarded_update import guarded_update
from batchgen.jobtable.prepared import Prepared
from batchgen.jobtable.schema import OPEN, Outcome, attempts, batches, jobs, prices

NOTHING = Decimal(0)


@dataclass(frozen=True, slots=True)
class Totals:
    """USD spent, USD reserved for what is under way, and how many requests are under way at an unknown price."""

    spent: Decimal = NOTHING
    reserved: Decimal = NOTHING
    unpriced: int = 0

    @property
    def committed(self) -> Decimal:
        return self.spent + self.reserved

    def __add__(self, other: Totals) -> Totals:
        return Totals(self.spent + other.spent, self.reserved + other.reserved, self.unpriced + other.unpriced)

    def __sub__(self, other: Totals) -> Totals:
        return Totals(self.spent - other.spent, self.reserved - other.reserved, self.unpriced - other.unpriced)


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the ledger: whose attempt it is, what became of it, and what it may and did cost, in USD."""

    batch_id: int
    service: str
    model: str
    outcome: str
    estimated_usd: Decimal | None
    cost_usd: Decimal | None = None

    @property
    def weight(self) -> Totals:
        return cost(self.outcome, self.estimated_usd, self.cost_usd)


def cost(outcome: str, estimate: Decimal | None, cost: Decimal | None) -> Totals:
    """What one attempt amounts to: its charge; until that is known, what it is expected to cost if it may cost."""
    if cost is not None:
        return Totals(spent=cost)
    if outcome not in OPEN:
        return Totals()
    return Totals(unpriced=1) if estimate is None else Totals(reserved=estimate)


def sums(connection: Connection, batch_id: int) -> Totals:
    """What the batch has spent and reserved, from its row."""
    return Totals(*connection.execute(SUMS, {"batch": batch_id}).one())


def recompute(connection: Connection, batch_id: int) -> Totals:
    """The same, added up from the ledger."""
    asked = select(attempts.c.outcome, attempts.c.estimated_usd, attempts.c.cost_usd)
    found = connection.execute(asked.join(jobs, attempts.c.job_id == jobs.c.id).where(jobs.c.batch_id == batch_id))
    return sum((cost(*row) for row in found), Totals())


def reserve(connection: Connection, batch_id: int, estimates: Sequence[Decimal | None]) -> None:
    """Attempts have begun, which are expected to cost so much each."""
    shift(connection, batch_id, sum((cost(Outcome.SENDING, estimate, None) for estimate in estimates), Totals()))


def record_charge(
    connection: Connection, guard: Mapping[str, Any], values: Mapping[str, Any], entry: Entry | None = None
) -> bool:
    """Change the one attempt that `guard` describes by its id, and the sums with it. False where there is none.

    `entry` is what the attempt is if `guard` holds, where the caller knows; else it is read.
    """
    if entry is None:
        row = connection.execute(ENTRY, {"attempt": guard["id"]}).one_or_none()
        if row is None:
            return False
        entry = Entry(*row)
    if not guarded_update(connection, attempts, guard, values):
        return False
    told = {name: values[name] for name in ("outcome", "estimated_usd", "cost_usd") if name in values}
    after = replace(entry, **told)
    shift(connection, entry.batch_id, after.weight - entry.weight)
    if after.cost_usd and after.cost_usd != after.estimated_usd:
        raise_highest(connection, entry.service, entry.model, after.cost_usd)
    return True


def shift(connection: Connection, batch_id: int, by: Totals) -> None:
    """Add to a batch's sums."""
    if by != Totals():
        SHIFT.run(
            connection, {"batch": batch_id, "spent_": by.spent, "reserved_": by.reserved, "unpriced_": by.unpriced}
        )


def raise_highest(connection: Connection, service: str, model: str, cost: Decimal) -> None:
    """Remember the highest charge ever seen for a model: all there is to go by where the list has no price."""
    of = {"of": service, "named": model}
    row = connection.execute(HIGHEST, of).one_or_none()
    if row is None:
        connection.execute(insert(prices).values(service=service, model=model, highest_usd=cost))
    elif row.highest_usd is None or row.highest_usd < cost:
        connection.execute(RAISE_HIGHEST, {**of, "cost": cost})


@dataclass(frozen=True, slots=True)
class Uncharged:
    """An accepted generation that has ended and whose charge is not known."""

    attempt_id: int
    job_id: int
    generation_id: str
    sent_at: datetime


def uncharged(connection: Connection, batch_id: int) -> list[Uncharged]:
    """What the service's transactions should tell the charges of, oldest first."""
    # A generation at work is charged when it ends, and then its own answer tells.
    ended = (jobs.c.state != State.GENERATING) | (jobs.c.attempt_id != attempts.c.id)
    of_batch = select(jobs.c.id).where(jobs.c.id == attempts.c.job_id, jobs.c.batch_id == batch_id, ended).exists()
    asked = select(attempts.c.id, attempts.c.job_id, attempts.c.generation_id, attempts.c.sent_at)
    # The words of the partial index, for the planner to find it.
    uncharged = text(f"cost_usd IS NULL AND outcome = '{Outcome.ACCEPTED}'")
    found = connection.execute(asked.where(uncharged, of_batch).order_by(attempts.c.job_id))
    return sorted((Uncharged(*row) for row in found), key=lambda each: each.sent_at)


def charge(connection: Connection, found: Sequence[tuple[Uncharged, Decimal]]) -> int:
    """Write down charges that the service's transactions tell. Returns how many were news."""
    number = 0
    for each, cost in found:
        if record_charge(connection, {"id": each.attempt_id, "outcome": Outcome.ACCEPTED}, {"cost_usd": cost}):
            guarded_update(connection, jobs, {"id": each.job_id, "attempt_id": each.attempt_id}, {"cost_usd": cost})
            number += 1
    return number


SUMS = select(batches.c.spent, batches.c.reserved, batches.c.unpriced).where(batches.c.id == bindparam("batch"))

ENTRY = (
    select(
        jobs.c.batch_id, jobs.c.service, jobs.c.model, attempts.c.outcome, attempts.c.estimated_usd, attempts.c.cost_usd
    )
    .join_from(attempts, jobs, attempts.c.job_id == jobs.c.id)
    .where(attempts.c.id == bindparam("attempt"))
)

_of_model = (prices.c.service == bindparam("of")) & (prices.c.model == bindparam("named"))
HIGHEST = select(prices.c.highest_usd).where(_of_model)
RAISE_HIGHEST = update(prices).where(_of_model).values(highest_usd=bindparam("cost", type_=prices.c.highest_usd.type))

SHIFT = Prepared(
    update(batches)
    .where(batches.c.id == bindparam("batch"))
    .values(
        {
            name: batches.c[name] + bindparam(f"{name}_", type_=batches.c[name].type)
            for name in ("spent", "reserved", "unpriced")
        }
    )
)
