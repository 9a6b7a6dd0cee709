"""What a run asks of the table again and again, a call each, and the statements that it makes of it."""

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
from batchgen.jobtable.transition import claim_due, next_due
from batchgen.services.base import Accepted, Finished
from tests.conftest import NOON

RUN = "run-hot"
SOON = NOON + timedelta(minutes=5)
MARK = "0123456789abcdef"
AT_WORK = (State.UNCONFIRMED, State.GENERATING, State.DOWNLOADING)

STATES = (State.PENDING, State.SUBMITTING, *AT_WORK)

Hot = Callable[[Connection, int], object]
Said = list[tuple[str, Any]]


def claimed(connection: Connection, batch_id: int, state: State) -> Any:
    (job, *_) = claim_due(connection, batch_id, state, RUN, NOON, SOON, 8)
    return job


def send(connection: Connection, batch_id: int) -> None:
    (intent, *_) = submission.intend(connection, batch_id, RUN, NOON, SOON, 8, None)
    submission.accepted(connection, intent, Accepted("g-hot", Decimal("0.28"), 200), NOON, SOON, SOON)


def poll(connection: Connection, batch_id: int) -> None:
    polling.working(connection, claimed(connection, batch_id, State.GENERATING), RUN, "busy", NOON, NOON)
    job = claimed(connection, batch_id, State.GENERATING)
    polling.finished(connection, job, RUN, Finished("https://cdn.test/v.mp4"), NOON)


def deliver(connection: Connection, batch_id: int) -> None:
    job = claimed(connection, batch_id, State.DOWNLOADING)
    delivery.verified(connection, job, RUN, 9, "ab")
    delivery.delivered(connection, job, RUN, 9, "ab", job.output_path, NOON)


def reconcile(connection: Connection, batch_id: int) -> None:
    (doubt, *_) = reconciliation.claim_unconfirmed(connection, batch_id, RUN, NOON, SOON, 1)
    reconciliation.others_succeed(connection, doubt)
    reconciliation.failures_like(connection, doubt)
    reconciliation.refuted(connection, doubt, "not in the log", NOON)


HOT: dict[str, Hot] = {
    "claiming, and an answer": send,
    "due polls, and an answer": poll,
    "due downloads, and a delivery": deliver,
    "due doubts, and what became of one": reconcile,
    "what may be sent": lambda c, b: submission.ready(c, b, NOON, 8),
    "what may be sent of a selection": lambda c, b: submission.ready(c, b, NOON, 8, MARK),
    "generations in flight": lambda c, b: submission.in_flight(c, "aimlapi", NOON),
    "whether anything is pending": submission.any_pending,
    "whether anything is open": lambda c, b: [statistics.any_open(c, b, [state], NOON) for state in STATES],
    "when anything is due": lambda c, b: [next_due(c, b, state) for state in AT_WORK],
    "the standing": lambda c, b: statistics.batch_summary(c, b, NOON),
    "what is waited for": lambda c, b: statistics.blockers(c, b, NOON),
    "the news": lambda c, b: statistics.events_since(c, b, statistics.last_event(c) - 5),
    "the newest event": lambda c, b: statistics.last_event(c),
    "failures": statistics.failures,
    "the sums": ledger.totals,
    "what is not charged": ledger.uncharged,
    "a charge": lambda c, b: ledger.record_charge(c, {"id": 1, "outcome": Outcome.ACCEPTED}, {"cost_usd": Decimal(1)}),
    "timings": lambda c, b: timings.load(c, "aimlapi"),
    "prices": lambda c, b: pricelist.load(c, "aimlapi"),
    "what was not selected": lambda c, b: selection.left_out(c, b, MARK),
    "who holds anything": lambda c, b: leases.holders(c),
    "runs that did not end": leases.unended,
    "a lease renewed": lambda c, b: leases.renew(c, RUN, NOON, SOON),
    "the dead": lambda c, b: leases.recover_dead(c, [RUN], NOON),
    "the overdue": lambda c, b: leases.recover_expired(c, b, NOON),
    "a new run": lambda c, b: leases.wake_waiting(c, b, NOON),
    "the end of a run": lambda c, b: leases.end_run(c, RUN, 0, NOON),
    "the states of some": lambda c, b: commands.states_of(c, b, ["mona", "lisa"]),
}


@contextmanager
def listening(connection: Connection) -> Iterator[Said]:
    """Every statement that goes to the database, with what it is given."""
    said: Said = []

    def hear(_connection: Any, _cursor: Any, statement: str, given: Any, _context: Any, many: bool) -> None:
        if statement.split()[0] in ("SELECT", "WITH", "UPDATE", "DELETE"):
            said.append((statement, given[0] if many else given))

    event.listen(connection, "before_cursor_execute", hear)
    try:
        yield said
    finally:
        event.remove(connection, "before_cursor_execute", hear)


def statements(connection: Connection, batch_id: int, hot: Hot) -> Said:
    """What `hot` says to the database; what it does there is undone."""
    with listening(connection) as said:
        undone = connection.begin_nested()
        hot(connection, batch_id)
        undone.rollback()
    assert said
    return said
