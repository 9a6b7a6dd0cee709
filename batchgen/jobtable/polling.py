"""generating → downloading or failed: the answers of the fetch endpoint, recorded."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection

from batchgen.jobs import Job, Outcome, State
from batchgen.jobtable import ledger
from batchgen.jobtable.transition import NO_LEASE, Increment, move, update_leased
from batchgen.services.base import Failed, Finished


def working(connection: Connection, job: Job, worker: str, word: str, now: datetime, next_at: datetime) -> bool:
    """Not finished at `now`: keep the service's word for it, and poll again at `next_at`."""
    answer = {"remote_status": word, "polled_at": now, "next_at": next_at, "failures": 0, "error": None}
    return update_leased(connection, job, worker, **answer, **NO_LEASE)


def unanswered(connection: Connection, job: Job, worker: str, reason: str, next_at: datetime) -> bool:
    """No answer, or none that can be read: this says nothing about the generation, so only the poll is postponed."""
    failure = {"failures": Increment(1), "remote_status": None, "error": reason}
    return update_leased(connection, job, worker, **failure, next_at=next_at, **NO_LEASE)


def videoless(connection: Connection, job: Job, worker: str, word: str, failures: int, next_at: datetime) -> bool:
    """Finished, but without a video, so often in a row: the service may name one a moment later."""
    failure = {"failures": failures, "remote_status": word, "error": f"{word}, but without a video"}
    return update_leased(connection, job, worker, **failure, next_at=next_at, **NO_LEASE)


def finished(connection: Connection, job: Job, worker: str, outcome: Finished, now: datetime) -> bool:
    """The video exists at the service."""
    cost = job.cost_usd if outcome.cost_usd is None else outcome.cost_usd
    answer = {"remote_status": outcome.word, "video_url": outcome.url, "cost_usd": cost}
    moved = leave(connection, job, worker, State.DOWNLOADING, None, now, **answer, finished_at=now, next_at=now)
    if moved and cost != job.cost_usd and job.attempt_id:
        ledger.update_attempt(connection, job.attempt_id, tuple(Outcome), {"cost_usd": cost})
    return moved


def failed(
    connection: Connection, job: Job, worker: str, outcome: Failed, now: datetime, *, charged: bool = False
) -> bool:
    """The generation failed at the service, which does not charge for it (unless it calls it finished)."""
    cost = job.cost_usd if charged else Decimal(0)
    reason = f"{outcome.name}: {outcome.message}" if outcome.message else outcome.name
    answer = {"remote_status": outcome.word, "cost_usd": cost, "failed_at": now, "next_at": None}
    error_class = "no_video" if charged else "generation"
    failure = {**answer, "error_class": error_class, "error": reason}
    moved = leave(connection, job, worker, State.FAILED, reason, now, **failure)
    if moved and job.attempt_id:
        ledger.update_attempt(connection, job.attempt_id, tuple(Outcome), {"cost_usd": cost, "error": reason})
    return moved


def leave(
    connection: Connection, job: Job, worker: str, to: State, detail: str | None, now: datetime, **values: Any
) -> bool:
    """Move the job on, if `worker` still leases it."""
    return move(connection, job.id, State.GENERATING, to, now, guard={"leased_by": worker}, detail=detail, **values)
