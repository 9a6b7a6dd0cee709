"""The queries that a run repeats, one call each, and the SQL statements they execute."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, event

from batchgen.jobs import Outcome, State
from batchgen.jobtable import (
    commands,
    delivery,
    in_flight,
    leases,
    ledger,
    polling,
    pricelist,
    reconciliation,
    selection,
    statistics,
    submission,
    timings,
)
from batchgen.jobtable.selection import Selected
from batchgen.jobtable.transition import claim_due, next_due
from batchgen.services.base import Accepted, Finished
from tests.conftest import NOON

RUN = "run-hot"
SOON = NOON + timedelta(minutes=5)
AT_WORK = (State.UNCONFIRMED, State.GENERATING, State.DOWNLOADING)

STATES = (State.PENDING, State.SUBMITTING, *AT_WORK)

Query = Callable[[Connection, int], object]
Statements = list[tuple[str, Any]]


def claimed(connection: Connection, batch_id: int, state: State) -> Any:
    (job, *_) = claim_due(connection, batch_id, state, RUN, NOON, SOON, 8)
    return job


def send(connection: Connection, batch_id: int) -> None:
    ready = submission.ready(connection, batch_id, NOON, 8)
    (job, *_) = submission.intend(connection, batch_id, RUN, NOON, SOON, "aimlapi", "account", ready)
    submission.accepted(connection, job, Accepted("g-hot", Decimal("0.28"), 200), NOON, SOON, SOON)


def poll(connection: Connection, batch_id: int) -> None:
    polling.working(connection, claimed(connection, batch_id, State.GENERATING), RUN, "busy", NOON, NOON)
    job = claimed(connection, batch_id, State.GENERATING)
    polling.finished(connection, job, RUN, Finished(("https://cdn.test/v.mp4",)), NOON)


def deliver(connection: Connection, batch_id: int) -> None:
    (job, *_) = delivery.claim_downloads(connection, batch_id, RUN, NOON, SOON, 8)
    (output,) = job.outputs
    delivery.verified(connection, job, RUN, output, 9, "ab")
    delivery.placed(connection, job, RUN, output, 9, "ab", job.output_path, NOON)


def reconcile(connection: Connection, batch_id: int) -> None:
    job = claimed(connection, batch_id, State.UNCONFIRMED)
    reconciliation.twins(connection, [job])
    reconciliation.others_succeed(connection, job)
    reconciliation.failures_like(connection, job)
    reconciliation.refuted(connection, job, "not in the log", NOON)


HOT_QUERIES: dict[str, Query] = {
    "claim and answer": send,
    "poll and answer": poll,
    "download and delivery": deliver,
    "unconfirmed attempts": reconcile,
    "ready jobs": lambda c, b: submission.ready(c, b, NOON, 8),
    "ready jobs of a selection": lambda c, b: submission.ready(c, b, NOON, 8, Selected(range(1, 1_000))),
    "in flight": lambda c, b: in_flight.in_flight(c, "aimlapi", NOON),
    "any pending": submission.any_pending,
    "any open": lambda c, b: [statistics.any_open(c, b, [state], NOON) for state in STATES],
    "next due": lambda c, b: [next_due(c, b, state) for state in AT_WORK],
    "batch summary": lambda c, b: statistics.batch_summary(c, b, NOON),
    "blockers": lambda c, b: statistics.blockers(c, b, NOON),
    "events since": lambda c, b: statistics.events_since(c, b, statistics.last_event(c) - 5),
    "last event": lambda c, b: statistics.last_event(c),
    "failures": statistics.failures,
    "totals": ledger.totals,
    "uncharged attempts": ledger.uncharged,
    "charge": lambda c, b: ledger.update_attempt(
        c, 1, tuple(Outcome), {"cost_usd": Decimal(1), "charge_source": "ledger"}
    ),
    "timings": lambda c, b: timings.load(c, "aimlapi"),
    "prices": lambda c, b: pricelist.load(c, "aimlapi"),
    "left out of a selection": lambda c, b: selection.left_out(c, b, Selected(range(1, 1_000))),
    "lease holders": lambda c, b: leases.holders(c),
    "unended runs": leases.unended,
    "renewal": lambda c, b: leases.renew(c, RUN, NOON, SOON),
    "recovery of dead runs": lambda c, b: leases.recover_dead(c, [RUN], NOON),
    "recovery of expired leases": lambda c, b: leases.recover_expired(c, b, NOON),
    "start of a run": lambda c, b: leases.wake_waiting(c, b, NOON),
    "end of a run": lambda c, b: leases.end_run(c, RUN, 0, NOON),
    "states of jobs": lambda c, b: commands.states_of(c, b, ["mona", "lisa"]),
}


@contextmanager
def listening(connection: Connection) -> Iterator[Statements]:
    """Collect every statement that is executed, with its parameters."""
    executed: Statements = []

    def listen(_connection: Any, _cursor: Any, statement: str, params: Any, _context: Any, many: bool) -> None:
        if statement.split()[0] in ("SELECT", "WITH", "UPDATE", "DELETE"):
            executed.append((statement, params[0] if many else params))

    event.listen(connection, "before_cursor_execute", listen)
    try:
        yield executed
    finally:
        event.remove(connection, "before_cursor_execute", listen)


def statements(connection: Connection, batch_id: int, query: Query) -> Statements:
    """The statements that `query` executes; its changes are rolled back."""
    with listening(connection) as executed:
        savepoint = connection.begin_nested()
        query(connection, batch_id)
        savepoint.rollback()
    assert executed
    return executed
