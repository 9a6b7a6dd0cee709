"""The jobs of a batch as a person reviews them: what was asked, what came, what it cost, and the verdict on it.

Of each job only the current attempt counts; the cost is that of all its attempts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, Select, bindparam, func, select

from batchgen.jobs import State, Verdict
from batchgen.jobtable.joins import ATTEMPTS, CURRENT_ATTEMPTS, CURRENT_FILES, CURRENT_OR_NONE, IN_BATCH, IS_DELIVERED
from batchgen.jobtable.measuring import PROBLEMS, ClipProblem
from batchgen.jobtable.schema import attempts, events, jobs, outputs, verdicts
from batchgen.jobtable.verdicts import Judgement

DIGEST = re.compile(r"[0-9a-f]{64}")
"""A SHA-256. It names posters on the disk, and a table may come from anywhere: a file with another one is left out."""
CHANGES_AT_ONCE = 500
"""Jobs in one answer to a page that follows a run: it asks again at once where there are more."""


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
    judgements = {  # of one attempt, the newest comes last
        row.attempt_id: (Judgement(Verdict(row.verdict) if row.verdict else None, row.stars), row.at)
        for row in rows(VERDICTS)
    }
    problems: dict[str, list[ClipProblem]] = {}
    for problem in (ClipProblem(*values) for values in connection.execute(PROBLEMS, {"in_batch": batch_id})):
        problems.setdefault(problem.id, []).append(problem)
    lists: dict[str, tuple[str, ...]] = {}  # pointers and tags, which many jobs share
    for row in rows(SELECT_JOBS_WITH_TIMES):
        judgement, judged_at = judgements.get(row.attempt_id, (Judgement(), None))
        yield Clip(
            *(row.id, row.key, State(row.state), row.model, row.request, parsed(row.input_pointers, lists)),
            *(row.clip_seconds, row.take, parsed(row.tags, lists), row.attempt_id, row.error_class, row.error),
            *(row.intent_at, row.answered_at, row.finished_at, row.delivered_at),
            ended_at=row.delivered_at or row.failed_at or row.cancelled_at,
            cost_usd=costs.get(row.id),
            files=tuple(sorted(files.get(row.attempt_id, ()), key=lambda file: file.number)),
            judgement=judgement,
            judged_at=judged_at,
            problems=tuple(problems.get(row.key, ())),
        )


def first_files(connection: Connection, batch_id: int) -> list[ClipFile]:
    return [clip.files[0] for clip in clips(connection, batch_id) if clip.files]


def parsed(text_: str, lists: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    """A JSON list of texts. Each different one is parsed once."""
    if text_ not in lists:
        lists[text_] = tuple(json.loads(text_))
    return lists[text_]


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


def spend_by_model(connection: Connection, batch_id: int) -> dict[str, Decimal]:
    """What the attempts of a batch were charged, by model, in USD. All attempts count, so the sum is the bill."""
    sums: dict[str, Decimal] = {}
    charges = COSTS.with_only_columns(attempts.c.model, attempts.c.cost_usd)
    for model, cost in connection.execute(charges, {"in_batch": batch_id}):
        sums[model] = sums.get(model, Decimal(0)) + cost
    return sums


SELECT_JOBS_WITH_TIMES = (
    select(
        *(jobs.c.id, jobs.c.key, jobs.c.state, jobs.c.model, jobs.c.request, jobs.c.input_pointers),
        *(jobs.c.clip_seconds, jobs.c.take, jobs.c.tags, jobs.c.attempt_id, jobs.c.error_class, jobs.c.error),
        *(jobs.c.delivered_at, jobs.c.failed_at, jobs.c.cancelled_at),
        *(attempts.c.intent_at, attempts.c.answered_at, attempts.c.finished_at),
    )
    .select_from(CURRENT_OR_NONE)
    .where(IN_BATCH)
    .order_by(jobs.c.id)
)
FILES = (
    select(
        *(outputs.c.attempt_id, outputs.c.number, outputs.c.path, outputs.c.sha256, outputs.c.bytes),
        *(outputs.c.seconds, outputs.c.width, outputs.c.height, outputs.c.remark),
    )
    .select_from(CURRENT_FILES)
    .where(IN_BATCH, IS_DELIVERED)
)
COSTS = (
    select(attempts.c.job_id, attempts.c.cost_usd)
    .select_from(ATTEMPTS)
    .where(IN_BATCH, attempts.c.cost_usd.is_not(None))
)
VERDICTS = (
    select(verdicts.c.attempt_id, verdicts.c.verdict, verdicts.c.stars, verdicts.c.at)
    .join_from(jobs, verdicts, jobs.c.attempt_id == verdicts.c.attempt_id)
    .where(IN_BATCH)
    .order_by(verdicts.c.id)
)
_measured = select(outputs.c.id).select_from(CURRENT_FILES).where(IN_BATCH)
