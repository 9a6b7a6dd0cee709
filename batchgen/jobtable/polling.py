"""generating → downloading or failed: the answers of the fetch endpoint, recorded."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update

from batchgen.jobs import PAID_FAILURES, ChargeSource, Job, Outcome, State
from batchgen.jobtable import ledger
from batchgen.jobtable.rows import load_jobs
from batchgen.jobtable.schema import attempts, jobs, outputs
from batchgen.jobtable.transition import NO_LEASE, Increment, change_state, guarded_update, update_leased
from batchgen.services.outcomes import Failed, Finished, failure_text


def working(
    connection: Connection,
    job: Job,
    run_id: str,
    word: str,
    now: datetime,
    next_at: datetime,
    remark: str | None = None,
) -> bool:
    """Not finished at `now`: keep the service's word for it, with a remark, and poll again at `next_at`."""
    planned = {"next_at": next_at, "failures": 0, "error": remark}
    return update_leased(connection, job, run_id, **planned, **NO_LEASE) and update_remote(
        connection, job, remote_status=word, polled_at=now
    )


def unanswered(connection: Connection, job: Job, run_id: str, reason: str, next_at: datetime) -> bool:
    """No answer, or none that can be read: this says nothing about the generation, so only the poll is postponed."""
    failure = {"failures": Increment(1), "error": reason, "next_at": next_at}
    return update_leased(connection, job, run_id, **failure, **NO_LEASE) and update_remote(
        connection, job, remote_status=None
    )


def planned(connection: Connection, batch_id: int, model: str, now: datetime) -> list[tuple[Job, datetime]]:
    """The generations of a model with their next poll, where that is later than `now` and is not a retry."""
    waiting = (jobs.c.batch_id == batch_id, jobs.c.state == State.GENERATING, jobs.c.leased_by.is_(None))
    later = (jobs.c.next_at > now, jobs.c.model == model, jobs.c.failures == 0)
    rows = connection.execute(select(jobs.c.id, jobs.c.next_at).where(*waiting, *later))
    next_poll_at = {row.id: row.next_at for row in rows}
    return [(job, next_poll_at[job.id]) for job in load_jobs(connection, list(next_poll_at))]


def bring_forward(connection: Connection, earlier: Mapping[int, tuple[datetime, datetime]]) -> None:
    """Poll jobs earlier: from the planned to the new time, by job id.

    A job that was claimed or polled meanwhile has another `next_at`, and is left alone.
    """
    moves = [{"of_job": job_id, "planned": at, "earlier": new} for job_id, (at, new) in earlier.items()]
    if moves:
        connection.execute(BRING_FORWARD, moves)


def without_file(connection: Connection, job: Job, run_id: str, word: str, failures: int, next_at: datetime) -> bool:
    """Finished, but without a file, so often in a row: the service may name one a moment later."""
    failure = {"failures": failures, "error": f"{word}, but without a file", "next_at": next_at}
    return update_leased(connection, job, run_id, **failure, **NO_LEASE) and update_remote(
        connection, job, remote_status=word
    )


def update_remote(connection: Connection, job: Job, **values: Any) -> bool:
    """Change what the attempt says about its generation. Nothing is written where nothing differs."""
    if all(getattr(job.attempt, name) == value for name, value in values.items()):
        return True
    return guarded_update(connection, attempts, {"id": job.attempt.id}, values)


def finished(
    connection: Connection,
    job: Job,
    run_id: str,
    outcome: Finished,
    now: datetime,
    collect_by: datetime | None = None,
    source: ChargeSource = ChargeSource.POLL,
) -> bool:
    """The files exist at the service, until `collect_by` at least. The answer's charge, if any, comes from `source`."""
    leased = {"leased_by": run_id}
    if not change_state(connection, job, State.GENERATING, State.DOWNLOADING, now, guard=leased, next_at=now):
        return False
    end(connection, job, outcome.word, now, outcome.cost_usd, source, collect_by=collect_by)
    files = [{"attempt_id": job.attempt.id, "number": n, "url": url} for n, url in enumerate(outcome.files, 1)]
    connection.execute(INSERT_OUTPUT, files)
    return True


def failed(
    connection: Connection,
    job: Job,
    run_id: str,
    outcome: Failed,
    now: datetime,
    *,
    leaving: State = State.GENERATING,
    polled_at: datetime | None = None,
) -> bool:
    """The generation failed at the service, or its files are gone there. `polled_at`: the last poll that found it."""
    failure: dict[str, Any] = {"error_class": outcome.kind, "error": failure_text(outcome)}
    leased, detail = {"leased_by": run_id}, failure["error"]
    moved = change_state(connection, job, leaving, State.FAILED, now, guard=leased, detail=detail, **failure)
    if moved:
        failure["polled_at"] = polled_at or now
        # Only what was made and paid for expires: that it cost nothing is not believed.
        is_believed = bool(outcome.cost_usd) or outcome.kind not in PAID_FAILURES
        cost_usd = outcome.cost_usd if is_believed else None
        end(connection, job, outcome.word, now, cost_usd, ChargeSource.POLL, **failure)
    return moved


def end(
    connection: Connection,
    job: Job,
    word: str,
    now: datetime,
    cost_usd: Decimal | None,
    source: ChargeSource,
    **values: Any,
) -> None:
    """Record in the attempt how its generation ended, and its charge where the service names it."""
    finished_at = job.attempt.finished_at or now
    new: dict[str, Any] = {"remote_status": word, "polled_at": now, "finished_at": finished_at, **values}
    if cost_usd is not None:
        new |= {"cost_usd": cost_usd, "charge_source": source}
    ledger.update_attempt(connection, job.attempt.id, (Outcome.ACCEPTED,), new, ledger.entry_of(job, Outcome.ACCEPTED))


INSERT_OUTPUT = insert(outputs)
BRING_FORWARD = (
    update(jobs)
    .where(jobs.c.id == bindparam("of_job"), jobs.c.state == State.GENERATING, jobs.c.next_at == bindparam("planned"))
    .values(next_at=bindparam("earlier"))
)
