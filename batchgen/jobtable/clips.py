"""The jobs of a batch as a person reviews them, and its delivered clips as `batchgen export` writes them: what was
asked, what came, what it cost, and the verdict on it.

Of each job only the current attempt counts; in a review, the cost is that of all its attempts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, Select, bindparam, func, select

from batchgen.jobs import State
from batchgen.jobtable.database import Database
from batchgen.jobtable.joins import ATTEMPTS, CURRENT_ATTEMPTS, CURRENT_FILES, IN_BATCH, IS_DELIVERED
from batchgen.jobtable.measuring import PROBLEMS, ClipProblem
from batchgen.jobtable.rows import chunks_of
from batchgen.jobtable.schema import attempts, batches, events, jobs, outputs, verdicts
from batchgen.jobtable.sync import LABELS
from batchgen.jobtable.verdicts import IS_NEWEST, JOBS_WITH_VERDICTS, Judgement

DIGEST = re.compile(r"[0-9a-f]{64}")
"""A SHA-256. It names posters on the disk, and a table may come from anywhere: a file with another one is left out."""
CHANGES_AT_ONCE = 500
"""Jobs in one answer to a page that follows a run: it asks again at once where there are more."""
CLIPS_AT_ONCE = 20  # exported from one query: some requests hold whole images, and all of them lie in memory


@dataclass(frozen=True, slots=True)
class ClipFile:
    number: int
    """From 1, in the service's order."""
    path: str
    """Relative to the manifest's folder, with `/` between the parts."""
    sha256: str
    bytes: int
    seconds: float | None
    width: int | None
    height: int | None
    remark: str | None


@dataclass(frozen=True, slots=True)
class Clip:
    """One job, delivered or not. Money in USD."""

    row_id: int
    id: str
    """The id in the manifest."""
    state: State
    model: str
    request: str
    """The JSON body of the create request, in which a local file stands as its path."""
    input_pointers: tuple[str, ...]
    """JSON pointers of the local files in the request."""
    clip_seconds: float | None
    take: int
    tags: tuple[str, ...]
    attempt_id: int | None
    error_class: str | None
    error: str | None
    intent_at: datetime | None
    answered_at: datetime | None
    finished_at: datetime | None
    delivered_at: datetime | None
    ended_at: datetime | None
    """When it was delivered, failed or was cancelled."""
    cost_usd: Decimal | None
    files: tuple[ClipFile, ...]
    judgement: Judgement
    judged_at: datetime | None
    problems: tuple[ClipProblem, ...]


class Marks(NamedTuple):
    """How far a page has read: what is newer than these has changed since."""

    event: int
    verdict: int
    measured_at: str


def clips(connection: Connection, batch_id: int, row_ids: Sequence[int] | None = None) -> Iterator[Clip]:
    """The jobs of a batch in the manifest's order; with `row_ids`, only those. Rows are read as they are consumed."""

    def rows(statement: Select[Any]) -> Iterator[Row[Any]]:
        params: dict[str, Any] = {"in_batch": batch_id}
        if row_ids is not None:
            statement = statement.where(jobs.c.id.in_(bindparam("ids", expanding=True)))
            params["ids"] = row_ids
        return iter(connection.execute(statement, params))

    files: dict[int, list[ClipFile]] = {}
    for row in rows(FILES):
        if DIGEST.fullmatch(row.sha256):
            files.setdefault(row.attempt_id, []).append(to_file(row))
    costs: dict[int, Decimal] = {}
    for row in rows(COSTS):
        costs[row.job_id] = costs.get(row.job_id, Decimal(0)) + row.cost_usd
    problems: dict[str, list[ClipProblem]] = {}
    for problem in (ClipProblem(*values) for values in connection.execute(PROBLEMS, {"in_batch": batch_id})):
        problems.setdefault(problem.id, []).append(problem)
    parsed = cache(lambda texts: tuple(json.loads(texts)))  # pointers and tags, which many jobs share
    for row in rows(SELECT_JOBS_WITH_TIMES):
        yield Clip(
            *(row.id, row.key, row.state, row.model, row.request, parsed(row.input_pointers)),
            *(row.clip_seconds, row.take, parsed(row.tags), row.attempt_id, row.error_class, row.error),
            *(row.intent_at, row.answered_at, row.finished_at, row.delivered_at),
            ended_at=row.delivered_at or row.failed_at or row.cancelled_at,
            cost_usd=costs.get(row.id),
            files=tuple(sorted(files.get(row.attempt_id, ()), key=lambda file: file.number)),
            judgement=Judgement(row.verdict, row.stars),
            judged_at=row.judged_at,
            problems=tuple(problems.get(row.key, ())),
        )


def first_files(connection: Connection, batch_id: int) -> list[ClipFile]:
    return [clip.files[0] for clip in clips(connection, batch_id) if clip.files]


def newest(connection: Connection, batch_id: int) -> Marks:
    """The marks of a page that reads the batch now."""
    newest_event = select(func.coalesce(func.max(events.c.id), 0)).where(events.c.batch_id == batch_id)
    newest_measure = _measured.with_only_columns(func.max(outputs.c.measured_at))
    measured_at = connection.execute(newest_measure, {"in_batch": batch_id}).scalar()
    return Marks(
        connection.execute(newest_event).scalar_one(),
        connection.execute(select(func.coalesce(func.max(verdicts.c.id), 0))).scalar_one(),
        measured_at.isoformat() if measured_at else "",
    )


def changed_since(connection: Connection, batch_id: int, marks: Marks) -> tuple[list[int], Marks]:
    """The row ids of jobs with anything newer than `marks`, and the marks up to which that is all.

    Raises `ValueError` for a time that is none.
    """
    in_batch = events.c.batch_id == bindparam("in_batch")
    moved = select(events.c.job_id, events.c.id).where(in_batch, events.c.id > marks.event)
    # From the verdicts: they are few after the mark, and the rest is found by primary keys.
    judged = select(jobs.c.id, verdicts.c.id).select_from(CURRENT_ATTEMPTS).join(verdicts)
    judged = judged.where(IN_BATCH, verdicts.c.id > marks.verdict)
    after = datetime.fromisoformat(marks.measured_at or "2000-01-01T00:00:00+00:00")
    if after.tzinfo is None:
        raise ValueError("a time without a zone")
    measured = _measured.with_only_columns(jobs.c.id, outputs.c.measured_at).where(outputs.c.measured_at > after)
    changes = [
        connection.execute(newer.order_by(mark).limit(CHANGES_AT_ONCE), {"in_batch": batch_id}).all()
        for newer, mark in ((moved, events.c.id), (judged, verdicts.c.id), (measured, outputs.c.measured_at))
    ]
    event, verdict, measured_at = (rows[-1][1] if rows else None for rows in changes)
    return sorted({row[0] for rows in changes for row in rows}), Marks(
        event or marks.event,
        verdict or marks.verdict,
        measured_at.isoformat() if measured_at else marks.measured_at,
    )


def attempt_of_clip(connection: Connection, batch_id: int, key: str, digest: str) -> int | None:
    """The current attempt of a job, if the SHA-256 of its first delivered file begins with `digest`."""
    of_job = FILES.where(jobs.c.key == key).order_by(outputs.c.number).limit(1)
    row = connection.execute(of_job, {"in_batch": batch_id}).first()
    return row.attempt_id if row and row.sha256.startswith(digest) else None


def find_file(connection: Connection, batch_id: int, row_id: int, place: int) -> ClipFile | None:
    """The delivered file at a place, counted from 1, among those of a job's current attempt: `clips` has this order."""
    rows = connection.execute(FILES.where(jobs.c.id == row_id).order_by(outputs.c.number), {"in_batch": batch_id})
    files = [to_file(row) for row in rows if DIGEST.fullmatch(row.sha256)]
    return files[place - 1] if 1 <= place <= len(files) else None


def to_file(row: Any) -> ClipFile:
    """A row of `FILES`."""
    _, *values = row
    return ClipFile(*values)


def clip_ids(connection: Connection, batch_id: int, job_ids: Collection[int] | None = None) -> list[int]:
    """The row ids of a batch's delivered files in the manifest's order; with `job_ids`, only those of these jobs."""
    delivered = select(outputs.c.id, jobs.c.id).select_from(CURRENT_FILES)
    of_batch = delivered.where(jobs.c.batch_id == batch_id, IS_DELIVERED).order_by(jobs.c.id, outputs.c.number)
    return [output_id for output_id, job_id in connection.execute(of_batch) if job_ids is None or job_id in job_ids]


def read_clips(database: Database, ids: Sequence[int]) -> Iterator[Row[Any]]:
    """The clips of these row ids. One that is not delivered any more is left out."""
    for some in chunks_of(ids, size=CLIPS_AT_ONCE):
        yield from database.read_now(clips_of, some)


def clips_of(connection: Connection, ids: Sequence[int]) -> list[Row[Any]]:
    return list(connection.execute(SELECT_CLIP_RECORDS, {"ids": ids}))


SELECT_JOBS_WITH_TIMES = (
    select(
        *(jobs.c.id, jobs.c.key, jobs.c.state, jobs.c.model, jobs.c.request, jobs.c.input_pointers),
        *(jobs.c.clip_seconds, jobs.c.take, jobs.c.tags, jobs.c.attempt_id, jobs.c.error_class, jobs.c.error),
        *(jobs.c.delivered_at, jobs.c.failed_at, jobs.c.cancelled_at),
        *(attempts.c.intent_at, attempts.c.answered_at, attempts.c.finished_at),
        *(verdicts.c.verdict, verdicts.c.stars, verdicts.c.at.label("judged_at")),
    )
    .select_from(JOBS_WITH_VERDICTS)
    .where(IN_BATCH)
    .order_by(jobs.c.id)
)
FILES = (
    select(outputs.c.attempt_id, *(outputs.c[name] for name in ClipFile.__dataclass_fields__))
    .select_from(CURRENT_FILES)
    .where(IN_BATCH, IS_DELIVERED)
)
COSTS = (
    select(attempts.c.job_id, attempts.c.cost_usd)
    .select_from(ATTEMPTS)
    .where(IN_BATCH, attempts.c.cost_usd.is_not(None))
)
_measured = select(outputs.c.id).select_from(CURRENT_FILES).where(IN_BATCH)

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
    .outerjoin(verdicts, IS_NEWEST)
    .outerjoin(_twin_output, _twin_output.c.id == outputs.c.copy_of)
    .outerjoin(_twin_attempt, _twin_attempt.c.id == _twin_output.c.attempt_id)
    .outerjoin(_twin_job, _twin_job.c.id == _twin_attempt.c.job_id)
    .where(outputs.c.id.in_(bindparam("ids", expanding=True)), IS_DELIVERED)
    .order_by(jobs.c.id, outputs.c.number)
)
