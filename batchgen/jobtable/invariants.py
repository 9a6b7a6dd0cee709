"""What holds between the rows of a batch. Guarded updates keep it; an edit by hand or a damaged disk may break it."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy import Connection, func, or_, select, text

from batchgen.catalogue.amounts import amount_text
from batchgen.jobs import UNDECIDED, Outcome, State
from batchgen.jobtable import ledger
from batchgen.jobtable.joins import ATTEMPT_IS_OPEN, ATTEMPTS, CURRENT_OR_NONE, IN_BATCH
from batchgen.jobtable.ledger import LedgerEntry
from batchgen.jobtable.schema import attempts, batches, events, jobs, outputs

EXAMPLES = 5  # jobs that are named


@dataclass(frozen=True, slots=True)
class BrokenInvariant:
    fault: str
    jobs: int = 0
    """How many jobs are concerned; 0 where it is the batch itself."""
    examples: tuple[str, ...] = ()

    def __str__(self) -> str:
        if not self.jobs:
            return self.fault
        more = f" and {self.jobs - len(self.examples):,} more" if self.jobs > len(self.examples) else ""
        return f"{self.fault}: {', '.join(self.examples)}{more}"


def violations(connection: Connection, batch_id: int) -> list[BrokenInvariant]:
    result = []
    for fault, statement in RULES.items():
        keys = statement.where(jobs.c.batch_id == batch_id)
        number = connection.execute(select(func.count()).select_from(keys.subquery())).scalar_one()
        if number:
            examples = connection.execute(keys.order_by(jobs.c.id).limit(EXAMPLES)).scalars()
            result.append(BrokenInvariant(fault, number, tuple(examples)))
    return result + wrong_totals(connection, batch_id)


def wrong_totals(connection: Connection, batch_id: int) -> list[BrokenInvariant]:
    """The running totals of a batch that differ from the sums over its attempts and files."""
    stored = connection.execute(select(batches).where(batches.c.id == batch_id)).mappings().one()
    sums: dict[str, Decimal | int] = {"spent_nanousd": Decimal(0), "reserved_nanousd": Decimal(0), "unpriced": 0}
    for row in connection.execute(AMOUNTS, {"in_batch": batch_id}):
        entry = LedgerEntry(batch_id, "", "", row.outcome, row.estimated_usd, row.cost_usd).totals
        sums["spent_nanousd"] += row.number * entry.spent
        sums["reserved_nanousd"] += row.number * entry.reserved
        sums["unpriced"] += row.number * entry.unpriced
    sums["delivered_bytes"] = ledger.delivered_bytes(connection, jobs.c.batch_id == batch_id)
    return [
        BrokenInvariant(
            f"{TOTALS[name]}: the batch says {amount_text(Decimal(stored[name]))},"
            f" its rows {amount_text(Decimal(total))}"
        )
        for name, total in sums.items()
        if stored[name] != total
    ]


TOTALS = {
    "spent_nanousd": "USD spent",
    "reserved_nanousd": "USD reserved for requests whose charge is not known",
    "unpriced": "requests without a known price",
    "delivered_bytes": "delivered bytes",
}
"""The totals in a batch's row, in words."""

_current = select(jobs.c.key).select_from(CURRENT_OR_NONE)
_files = select(outputs.c.id).where(outputs.c.attempt_id == jobs.c.attempt_id).correlate(jobs)
_undelivered = _files.where(outputs.c.delivered_at.is_(None))
_newest_state = (
    select(events.c.to_state)
    .where(events.c.job_id == jobs.c.id)
    .order_by(events.c.id.desc())
    .limit(1)
    .correlate(jobs)
    .scalar_subquery()
)
_accepted = [state for state in State if state.is_accepted]
RULES = {
    "the current request of these jobs belongs to another job": _current.where(attempts.c.job_id != jobs.c.id),
    "the states of these jobs and the outcomes of their requests disagree": _current.where(
        or_(
            jobs.c.state.in_(_accepted) & (attempts.c.outcome != Outcome.ACCEPTED),
            (jobs.c.state == State.SUBMITTING) & (attempts.c.outcome != Outcome.SENDING),
            (jobs.c.state == State.UNCONFIRMED) & attempts.c.outcome.not_in(UNDECIDED),
        )
    ),
    "these jobs have another request that may be paid for, besides their current one": select(jobs.c.key)
    .select_from(ATTEMPTS)
    .where(
        text(ATTEMPT_IS_OPEN),
        func.coalesce(jobs.c.attempt_id, 0) != attempts.c.id,
        jobs.c.state.not_in([State.FAILED, State.CANCELLED]),
    ),
    "these jobs are delivered, but not with all their files": select(jobs.c.key).where(
        jobs.c.state == State.DONE, ~_files.exists() | _undelivered.exists()
    ),
    "these jobs wait for a download, but no file is to be fetched": select(jobs.c.key).where(
        jobs.c.state == State.DOWNLOADING, ~_undelivered.exists()
    ),
    "the last events of these jobs disagree with their states": select(jobs.c.key).where(
        func.coalesce(_newest_state, "") != jobs.c.state
    ),
}
"""What is wrong, in words, with the jobs of which it is true."""

AMOUNTS = (
    select(attempts.c.outcome, attempts.c.estimated_usd, attempts.c.cost_usd, func.count().label("number"))
    .select_from(ATTEMPTS)
    .where(IN_BATCH)
    .group_by(attempts.c.outcome, attempts.c.estimated_usd, attempts.c.cost_usd)
)
"""Many attempts have the same amounts: they are added exactly, which SQLite cannot, and there are few sums."""
