"""What a person commands: retry failed and cancelled jobs, fetch a lost file again, cancel what has not ended."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Row, func, select, update

from batchgen.files.measures import Measures
from batchgen.jobs import ChargeSource, ErrorClass, Job, Outcome, State
from batchgen.jobtable import ledger, settings
from batchgen.jobtable.joins import CURRENT_OR_NONE
from batchgen.jobtable.rows import chunks_of, load_jobs, may_be_charged, rows_among
from batchgen.jobtable.schema import attempts, batches, jobs, outputs
from batchgen.jobtable.transition import Increment, change_state, guarded_update

ASKED_AGAIN = "the same generation is asked for again"
FETCHED_AGAIN = "its file is not there any more, and is fetched again"
CANCELLED = "cancelled by a person"
GONE = "gone from the manifest"


def states_of(connection: Connection, batch_id: int, keys: Collection[str]) -> dict[str, State]:
    """The state of each of these jobs; a key that is not in the batch is missing."""
    return {row.key: row.state for row in rows_of(connection, batch_id, keys)}


def all_states(connection: Connection, batch_id: int) -> dict[str, State]:
    """The state of every job of a batch, in the manifest's order."""
    of_batch = select(jobs.c.key, jobs.c.state).where(jobs.c.batch_id == batch_id)
    return dict(connection.execute(of_batch.order_by(jobs.c.id)).all())


def gone(connection: Connection, batch_id: int, keys: Collection[str]) -> set[str]:
    """Those of these jobs that left the manifest before they were sent, or whose request goes on under another name."""
    return {row.key for row in rows_of(connection, batch_id, keys) if row.error_class == ErrorClass.GONE}


def given_up(connection: Connection, batch_id: int) -> list[str]:
    """The failed jobs that a person gave up: whether the service accepted them was never known."""
    unknown = (jobs.c.state == State.FAILED, jobs.c.error_class == ErrorClass.UNCONFIRMED)
    return list(connection.execute(select(jobs.c.key).where(jobs.c.batch_id == batch_id, *unknown)).scalars())


def rows_of(connection: Connection, batch_id: int, keys: Collection[str]) -> list[Row[Any]]:
    """These jobs with what their current attempts came to, in the manifest's order. `keys` may be of any number."""
    rows = rows_among(connection, ROWS.where(jobs.c.batch_id == batch_id), jobs.c.key, keys)
    return sorted(rows, key=lambda row: row.id)


def retry(
    connection: Connection, batch_id: int, keys: Collection[str], now: datetime, orphans: Collection[str] = ()
) -> list[str]:
    """Failed and cancelled jobs become pending, for a new attempt. The old ones stay in the ledger, released.

    A charged one is paid for once more: see `ask_again`. One that left the manifest, or is one of the `orphans`, stays
    as it is. Returns the keys moved.

    They are compared with the service's log before they are sent: it has what an older copy of the table lacks.
    """
    rows = rows_of(connection, batch_id, [key for key in keys if key not in orphans])
    retried = [row.key for row in rows if renew(connection, row, now)]
    if retried:
        settings.compare_again(connection, batch_id, now)
    return retried


def renew(connection: Connection, row: Row[Any], now: datetime) -> bool:
    """Make one failed or cancelled job pending, unless it left the manifest."""
    if not row.state.is_retriable or row.error_class == ErrorClass.GONE:
        return False
    unreleased = (attempts.c.job_id == row.id, attempts.c.released_at.is_(None))
    is_pending = change_state(connection, row, row.state, State.PENDING, now, detail="retry", attempt_id=None)
    if is_pending:
        connection.execute(update(attempts).where(*unreleased).values(released_at=now))
    return is_pending


def retry_for_nothing(
    connection: Connection,
    batch_id: int,
    keys: Collection[str],
    now: datetime,
    deadline_at: datetime,
    orphans: Collection[str] = (),
    *,
    may_buy: bool,
) -> tuple[list[str], list[str]]:
    """Ask for the same generations again where they may be charged; with `may_buy`, the other jobs become pending.

    Without it, a job of unknown acceptance stays as well: if the service proves that it never took the request, a run
    would send another. Returns the keys that are asked for again, and those that are pending again.
    """
    charged = {row.key: row for row in rows_of(connection, batch_id, keys) if may_be_charged(row)}
    askable = [key for key, row in charged.items() if may_buy or row.outcome == Outcome.ACCEPTED]
    resumed = ask_again(connection, batch_id, askable, now, deadline_at)
    others = [key for key in keys if key not in charged]
    return resumed, retry(connection, batch_id, others, now, orphans) if may_buy else []


def ask_again(
    connection: Connection,
    batch_id: int,
    keys: Collection[str],
    now: datetime,
    deadline_at: datetime,
    reason: str = ASKED_AGAIN,
) -> list[str]:
    """Failed and cancelled jobs go back to where their attempt stands: the service is asked for the same generation.

    That costs nothing: no job becomes pending, and none gets a new attempt. A run waits for it until `deadline_at`.
    Returns the keys moved.
    """
    return [
        row.key
        for row in rows_of(connection, batch_id, keys)
        if row.state.is_retriable and may_be_charged(row) and resume(connection, row, now, deadline_at, reason)
    ]


def resume(connection: Connection, row: Row[Any], now: datetime, deadline_at: datetime, reason: str) -> bool:
    """Take one failed or cancelled job back to where its attempt stands."""
    undelivered = (outputs.c.attempt_id == row.attempt_id, outputs.c.delivered_at.is_(None))
    new: dict[str, Any] = {"next_at": now}
    remote: dict[str, Any] = {"deadline_at": deadline_at}
    if row.outcome.is_undecided:
        to = State.UNCONFIRMED
        new |= {"error_class": ErrorClass.UNCONFIRMED, "error": row.attempt_error}  # why it is unknown has not changed
    elif connection.execute(select(outputs.c.id).where(*undelivered).limit(1)).first():
        to = State.DOWNLOADING
        remote |= {"error_class": None, "error": None}
    else:
        to = State.GENERATING
        remote |= {"error_class": None, "error": None, "finished_at": None}
    own = {"attempt_id": row.attempt_id}
    if not change_state(connection, row, row.state, to, now, guard=own, detail=reason, **new):
        return False
    guarded_update(connection, attempts, {"id": row.attempt_id, "outcome": row.outcome}, remote)
    connection.execute(update(outputs).where(*undelivered).values(refused=None))
    return True


def poll_now(connection: Connection, batch_id: int, keys: Collection[str], now: datetime) -> None:
    """Make the next polls of these jobs due at once, where no run is at one."""
    waiting = (jobs.c.batch_id == batch_id, jobs.c.state == State.GENERATING, jobs.c.leased_by.is_(None))
    for chunk in chunks_of(list(keys)):
        due = update(jobs).where(*waiting, jobs.c.key.in_(chunk), jobs.c.next_at > now)
        connection.execute(due.values(next_at=now))


def fetch_again(
    connection: Connection, batch_id: int, missing: Mapping[str, Collection[int]], now: datetime
) -> list[str]:
    """done → downloading, for delivered files that are not there any more. Free: the generation stays the same.

    `missing` has the numbers of the files by key. Returns the keys moved.
    """
    moved = []
    for row in rows_of(connection, batch_id, missing):
        own = {"attempt_id": row.attempt_id}
        if row.state is not State.DONE or not missing[row.key]:
            continue
        if change_state(
            connection, row, State.DONE, State.DOWNLOADING, now, guard=own, detail=FETCHED_AGAIN, next_at=now
        ):
            lost = (outputs.c.attempt_id == row.attempt_id, outputs.c.number.in_(missing[row.key]))
            size = connection.execute(select(func.sum(outputs.c.bytes)).where(*lost)).scalar_one()
            new: dict[str, Any] = {"delivered_at": None, "etag": None, "refused": None, "remark": None}
            new |= dict.fromkeys((*Measures.__dataclass_fields__, "copy_of", "measured_at"))
            connection.execute(update(outputs).where(*lost).values(**new))
            guarded_update(connection, batches, {"id": batch_id}, {"delivered_bytes": Increment(-size)})
            moved.append(row.key)
    return moved


def cancel(connection: Connection, batch_id: int, keys: Collection[str], now: datetime) -> dict[str, State]:
    """Cancel jobs. What was sent may be charged all the same, and its attempt stays as it is.

    Returns the state that each of them left, by key.
    """
    cancelled = {}
    for row in rows_of(connection, batch_id, keys):
        new: dict[str, Any] = {"error_class": ErrorClass.PERSON, "error": CANCELLED}
        if not may_be_charged(row):
            new["attempt_id"] = None  # It follows the manifest again, as a job that was never sent.
        if row.state.is_cancellable and change_state(
            connection, row, row.state, State.CANCELLED, now, detail=CANCELLED, **new
        ):
            cancelled[row.key] = row.state
    return cancelled


def at_service(connection: Connection, batch_id: int, keys: Collection[str]) -> list[Job]:
    """Those of these jobs on whose generations the service may be working."""
    ids = [row.id for row in rows_of(connection, batch_id, keys) if row.outcome == Outcome.ACCEPTED]
    accepted = (job for chunk in chunks_of(ids) for job in load_jobs(connection, chunk))
    return [job for job in accepted if job.attempt.handle and job.attempt.finished_at is None]


def ended_at_service(connection: Connection, attempt_id: int, cost_usd: Decimal | None, now: datetime) -> bool:
    """The service has cancelled a generation: it is not in flight any more, and costs what the service says."""
    values: dict[str, Any] = {"finished_at": now}
    if cost_usd is not None:
        values |= {"cost_usd": cost_usd, "charge_source": ChargeSource.ANSWER}
    return ledger.update_attempt(connection, attempt_id, (Outcome.ACCEPTED,), values)


def cancel_pending(connection: Connection, ids: Collection[int], reason: str, now: datetime) -> None:
    """Cancel those of these few jobs that wait to be sent. They are pending again once the manifest asks for them."""
    for row in connection.execute(ROWS.where(jobs.c.id.in_(ids))).all():
        cancel_row(connection, row, ErrorClass.GONE, reason, now)


def cancel_row(
    connection: Connection,
    row: Any,
    error_class: ErrorClass,
    reason: str,
    now: datetime,
    leaving: State = State.PENDING,
) -> bool:
    """Cancel one job, if it has not been sent, or has failed (`leaving`) for nothing. It follows the manifest again."""
    new: dict[str, Any] = {"error_class": error_class, "error": reason, "attempt_id": None}
    return row.state == leaving and change_state(connection, row, leaving, State.CANCELLED, now, detail=reason, **new)


ROWS = select(
    *(jobs.c.id, jobs.c.batch_id, jobs.c.key, jobs.c.state, jobs.c.attempt_id, jobs.c.error_class),
    *(attempts.c.outcome, attempts.c.cost_usd, attempts.c.error.label("attempt_error")),
).select_from(CURRENT_OR_NONE)
