"""The queries that a run repeats, one call each, and the SQL statements they execute."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, event

from batchgen.jobs import ChargeSource, Outcome, State
from batchgen.jobtable import (
    commands,
    delivery,
    in_flight,
    leases,
    ledger,
    measuring,
    polling,
    pricelist,
    reconciliation,
    repeats,
    selection,
    settings,
    statistics,
    submission,
    timings,
)
from batchgen.jobtable.delivery import PlacedFile
from batchgen.jobtable.repeats import RepeatSearch
from batchgen.jobtable.selection import Selected
from batchgen.jobtable.submission import Sender
from batchgen.jobtable.transition import Claim, claim_due, next_due
from batchgen.limits import blockers
from batchgen.services.outcomes import Accepted, Adopted, Finished
from tests.conftest import NOON
from tests.table import ACCOUNT, MODEL

RUN = "run-hot"
SOON = NOON + timedelta(minutes=5)
AT_WORK = (State.UNCONFIRMED, State.GENERATING, State.DOWNLOADING)

STATES = (State.PENDING, State.SUBMITTING, *AT_WORK)

Query = Callable[[Connection, int], object]
Statements = list[tuple[str, Any]]


def claimed(connection: Connection, batch_id: int, state: State) -> Any:
    (job, *_) = claim_due(connection, Claim(batch_id, RUN, NOON, SOON, 8), state, "https://api.example")
    return job


def selected() -> Selected:
    """A selection of more jobs than there are rows, as a run with options keeps it."""
    return Selected(range(1, 400))


def intend(connection: Connection, batch_id: int) -> Any:
    ready = submission.ready(connection, batch_id, 8)
    (job, *_) = submission.intend(connection, batch_id, Sender(RUN, "aimlapi", ACCOUNT), NOON, SOON, ready)
    return job


def send(connection: Connection, batch_id: int) -> None:
    job = intend(connection, batch_id)
    submission.prepared(connection, job, RUN, {"upload": 1}, NOON, SOON)
    answer = Accepted("g-hot", Decimal("0.28"), 200, {"id": "g-hot"})
    assert submission.accepted(connection, job, answer, NOON, SOON, SOON)


def lose(connection: Connection, batch_id: int) -> None:
    """An answer with the generation of another attempt: it is looked for, and the job becomes unconfirmed."""
    job = intend(connection, batch_id)
    assert ledger.is_owned_elsewhere(connection, job.attempt.id, "g-is-done")
    assert submission.accepted(connection, job, Accepted("g-is-done"), NOON, SOON, SOON)


def poll(connection: Connection, batch_id: int) -> None:
    polling.working(connection, claimed(connection, batch_id, State.GENERATING), RUN, "busy", NOON, NOON)
    job = claimed(connection, batch_id, State.GENERATING)
    assert polling.finished(connection, job, RUN, Finished(("https://cdn.test/v.mp4",)), NOON)


def claim_downloads(connection: Connection, batch_id: int, *, results_expire: bool = False) -> Any:
    claim = Claim(batch_id, RUN, NOON, SOON, 8)
    (job, *_) = delivery.claim_downloads(connection, claim, results_expire=results_expire)
    return job


def deliver(connection: Connection, batch_id: int) -> None:
    job = claim_downloads(connection, batch_id)
    (output,) = job.outputs
    delivery.begun(connection, job, RUN, output, '"v1"')
    delivery.verified(connection, job, RUN, output, 9, "ab")
    assert delivery.placed(connection, job, RUN, output, PlacedFile(9, "ab", job.output_path), NOON)


def reconcile(connection: Connection, batch_id: int) -> None:
    job = claimed(connection, batch_id, State.UNCONFIRMED)
    reconciliation.others_succeed(connection, job)
    reconciliation.failures_like(connection, job)
    assert reconciliation.refuted(connection, job, "not in the log", NOON)


def adopt(connection: Connection, batch_id: int) -> None:
    job = claimed(connection, batch_id, State.UNCONFIRMED)
    assert reconciliation.adopted(connection, job, Adopted("g-hot", NOON), NOON, SOON)


SORTED = {"suspect clips", "downloads by expiry", "sent elsewhere", "last run", "lost files", "blockers"}
"""These sort by what lies in another table than what their rows are selected by, or a few rows."""
CHARGE = {"cost_usd": Decimal(1), "charge_source": ChargeSource.LEDGER}
HOT_QUERIES: dict[str, Query] = {
    "claim and answer": send,
    "poll and answer": poll,
    "download and delivery": deliver,
    "lost answer": lose,
    "unconfirmed attempts": reconcile,
    "adoption": adopt,
    "held jobs": reconciliation.held_jobs,
    "ready jobs": lambda c, b: submission.ready(c, b, 8),
    "ready jobs of a selection": lambda c, b: submission.ready(c, b, 8, selected()),
    "repeats of a claim": lambda c, b: repeats.paid_meanwhile(c, RepeatSearch(b, "aimlapi", Path(), ()), [1, 2, 3]),
    "in flight": lambda c, b: in_flight.in_flight_by_model(c, "aimlapi", NOON),
    "accepted creates": lambda c, b: in_flight.accepted_times(c, "aimlapi", MODEL, NOON, SOON),
    "any pending": submission.any_pending,
    "any open": lambda c, b: [statistics.any_open(c, b, [state], NOON) for state in STATES],
    "next due": lambda c, b: [next_due(c, b, state) for state in AT_WORK],
    "next due here": lambda c, b: [next_due(c, b, state, "https://api.example") for state in AT_WORK],
    "sent elsewhere": lambda c, b: blockers.elsewhere(c, b, "https://api.example"),
    "batch summary": lambda c, b: statistics.batch_summary(c, b, NOON),
    "blockers": lambda c, b: blockers.blockers(c, b, NOON),
    "lasting causes": blockers.lasting_causes,
    "remarks": delivery.remarks,
    "unmeasured clips": measuring.unmeasured,
    "suspect clips": measuring.suspect_clips,
    "lost files": lambda c, b: delivery.lost_files(c, b, Path("/nowhere")),
    "last run": statistics.last_run,
    "rows of commands": lambda c, b: commands.rows_of(c, b, ["mona"]),
    "events since": lambda c, b: statistics.events_since(c, b, statistics.last_event(c) - 5),
    "settings": settings.current,
    "newest setting": settings.newest,
    "settings since": lambda c, b: settings.since(c, b, 0),
    "active jobs": statistics.count_active,
    "last event": lambda c, b: statistics.last_event(c),
    "failures": statistics.failures,
    "totals": ledger.totals,
    "uncharged attempts": ledger.uncharged,
    "charge": lambda c, b: ledger.update_attempt(c, 1, tuple(Outcome), CHARGE),
    "timings": lambda c, b: timings.load(c, "aimlapi"),
    "prices": lambda c, b: pricelist.load(c, "aimlapi"),
    "left out of a selection": lambda c, b: selection.left_out(c, b, selected()),
    "lease holders": lambda c, b: leases.holders(c),
    "unended runs": leases.unended,
    "renewal": lambda c, b: leases.renew(c, RUN, NOON, SOON),
    "recovery of dead runs": lambda c, b: leases.recover_dead(c, [RUN], NOON),
    "recovery of expired leases": lambda c, b: leases.recover_expired(c, b, NOON),
    "start of a run": lambda c, b: leases.wake_waiting(c, b, NOON),
    "end of a run": lambda c, b: leases.end_run(c, RUN, 0, NOON),
    "downloads by expiry": lambda c, b: claim_downloads(c, b, results_expire=True),
    "states of jobs": lambda c, b: commands.states_of(c, b, ["mona", "lisa"]),
}


@contextmanager
def listening(connection: Connection | Engine) -> Iterator[Statements]:
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
