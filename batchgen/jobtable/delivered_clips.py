"""Delivered clips with all that is known of them, some at a time: what `batchgen export` writes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, select

from batchgen.jobtable.chunks import chunks_of
from batchgen.jobtable.database import Database
from batchgen.jobtable.joins import CURRENT_ATTEMPTS, CURRENT_FILES, IS_DELIVERED
from batchgen.jobtable.schema import attempts, batches, jobs, outputs, verdicts
from batchgen.jobtable.sync import LABELS

CLIPS_AT_ONCE = 20  # in one query: some requests hold whole images, and all of them lie in memory


def clip_ids(connection: Connection, batch_id: int, job_ids: Collection[int] | None = None) -> list[int]:
    """The row ids of the delivered files of a batch in the manifest's order; with `job_ids`, only those of these jobs.

    Only files of the current attempts count.
    """
    delivered = select(outputs.c.id, jobs.c.id).select_from(CURRENT_FILES)
    in_order = delivered.where(jobs.c.batch_id == batch_id, IS_DELIVERED).order_by(jobs.c.id, outputs.c.number)
    rows = connection.execute(in_order)
    return [output_id for output_id, job_id in rows if job_ids is None or job_id in job_ids]


def read_clips(database: Database, ids: Sequence[int]) -> Iterator[Row[Any]]:
    """The clips of these row ids. One that is not delivered any more is left out."""
    for some in chunks_of(ids, size=CLIPS_AT_ONCE):
        yield from database.read_now(clips_of, some)


def clips_of(connection: Connection, ids: Sequence[int]) -> list[Row[Any]]:
    return list(connection.execute(SELECT_CLIP_RECORDS, {"ids": ids}))


_newest = verdicts.alias("newest")
_newest_id = select(func.max(_newest.c.id)).where(_newest.c.attempt_id == attempts.c.id).correlate(attempts)
_twin_output, _twin_attempt, _twin_job = outputs.alias("twin_output"), attempts.alias("twin"), jobs.alias("twin_job")
_first = outputs.alias("first")
_first_number = (
    select(func.min(_first.c.number))
    .where(_first.c.attempt_id == attempts.c.id, _first.c.delivered_at.is_not(None))
    .correlate(attempts)
)
SELECT_CLIP_RECORDS = (
    select(
        *(batches.c.name.label("batch"), jobs.c.key.label("id"), outputs.c.number.label("output")),
        *(outputs.c.path, outputs.c.bytes, outputs.c.sha256, outputs.c.remark, outputs.c.delivered_at),
        *(outputs.c.seconds, outputs.c.width, outputs.c.height, outputs.c.fps, outputs.c.codec),
        *(outputs.c.black, outputs.c.frozen, outputs.c.unlike_input, outputs.c.seconds_off),
        _twin_job.c.key.label("copy_of"),
        *(jobs.c.request, jobs.c.input_pointers, jobs.c.clip_seconds, jobs.c.take, *LABELS, jobs.c.created_at),
        _first_number.scalar_subquery().label("first_output"),
        *(jobs.c.parent_batch, jobs.c.parent_key.label("parent_id")),
        *(attempts.c.service, attempts.c.model, attempts.c.number.label("attempt"), attempts.c.generation_id),
        *(attempts.c.intent_at.label("sent_at"), attempts.c.answered_at.label("accepted_at"), attempts.c.finished_at),
        *(attempts.c.cost_usd, attempts.c.charge_source, attempts.c.input_digests),
        *(verdicts.c.verdict, verdicts.c.stars),
    )
    .select_from(CURRENT_ATTEMPTS.join(batches).join(outputs))
    .outerjoin(verdicts, verdicts.c.id == _newest_id.scalar_subquery())
    .outerjoin(_twin_output, _twin_output.c.id == outputs.c.copy_of)
    .outerjoin(_twin_attempt, _twin_attempt.c.id == _twin_output.c.attempt_id)
    .outerjoin(_twin_job, _twin_job.c.id == _twin_attempt.c.job_id)
    .where(outputs.c.id.in_(bindparam("ids", expanding=True)), IS_DELIVERED)
    .order_by(jobs.c.id, outputs.c.number)
)
