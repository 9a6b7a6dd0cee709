"""generating → downloading or failed: what the fetch endpoint said, written down."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from sqlalchemy import Connection

from batchgen.jobs import Job, State
from batchgen.jobtable import ledger
from batchgen.jobtable.guarded_update import Increment
from batchgen.jobtable.transition import FREE, move, update_leased
from batchgen.services.base import Failed, Finished


def working(connection: Connection, job: Job, worker: str, word: str, now: datetime, next_at: datetime) -> bool:
    """Not finished at `now`: keep the service's word, and look again at `next_at`."""
    said = {"remote_status": word, "polled_at": now, "next_at": next_at, "failures": 0, "error": None}
    return update_leased(connection, job, worker, **said, **FREE)


def unanswered(connection: Connection, job: Job, worker: str, reason: str, next_at: datetime) -> bool:
    """No answer, or one that makes no sense: the job may be doing well, so only the asking is postponed."""
    strike = {"failures": Increment(1), "remote_status": None, "error": reason}
    return update_leased(connection, job, worker, **strike, next_at=next_at, **FREE)


def videoless(connection: Connection, job: Job, worker: str, word: str, looks: int, next_at: datetime) -> bool:
    """The service says finished and names no video, so often in a row: it may do so a moment later."""
    strike = {"failures": looks, "remote_status": word, "error": f"{word}, but without a video"}
    return update_leased(connection, job, worker, **strike, next_at=next_at, **FREE)


def finished(connection: Connection, job: Job, worker: str, outcome: Finished, now: datetime) -> bool:
    """The video exists at the service."""
    cost = job.cost_usd if outcome.cost_usd is None else outcome.cost_usd
    moved = move(
        connection,
        job.id,
        State.GENERATING,
        State.DOWNLOADING,
        now,
        guard={"leased_by": worker},
        remote_status=outcome.word,
        video_url=outcome.url,
        cost_usd=cost,
        finished_at=now,
        next_at=now,
    )
    if moved and cost != job.cost_usd:
        ledger.record_charge(connection, {"id": job.attempt_id}, {"cost_usd": cost})
    return moved


def failed(
    connection: Connection, job: Job, worker: str, outcome: Failed, now: datetime, *, charged: bool = False
) -> bool:
    """The generation failed at the service, which does not charge for it (unless it calls it finished)."""
    cost = job.cost_usd if charged else Decimal(0)
    said = f"{outcome.name}: {outcome.message}" if outcome.message else outcome.name
    moved = move(
        connection,
        job.id,
        State.GENERATING,
        State.FAILED,
        now,
        guard={"leased_by": worker},
        detail=said,
        remote_status=outcome.word,
        cost_usd=cost,
        failed_at=now,
        next_at=None,
        error_class="no_video" if charged else "generation",
        error=said,
    )
    if moved:
        ledger.record_charge(connection, {"id": job.attempt_id}, {"cost_usd": cost, "error": said})
    return moved
