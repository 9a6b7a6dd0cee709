"""The measures of delivered clips: which clips have none, and how they are recorded."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, column, select, table, text, update

from batchgen.files.delivered import DeliveredFile
from batchgen.files.measures import Measures
from batchgen.jobtable.joins import CURRENT_ATTEMPTS, IN_BATCH, IS_DELIVERED, OUTPUT_IS_SUSPECT
from batchgen.jobtable.schema import attempts, batches, jobs, outputs

CLIPS_AT_ONCE = 50
"""Unmeasured clips that are read in one query: bounds its memory and its time."""
SUSPECTS_SHOWN = 20
"""So many suspect clips have their problems listed; the review shows all."""


@dataclass(frozen=True, slots=True)
class DeliveredClip:
    id: int
    """Of its row in `outputs`."""
    job_id: int
    signature: str | None
    """Of a clip that was measured."""
    file: DeliveredFile


@dataclass(frozen=True, slots=True)
class UnmeasuredClip(DeliveredClip):
    """A delivered file that nobody has measured, with the request that it was made from."""

    clip_seconds: float | None
    """As ordered."""
    request: str
    input_digests: dict[str, Any]


def unmeasured(connection: Connection, batch_id: int, capacity: int = CLIPS_AT_ONCE) -> list[UnmeasuredClip]:
    """At most `capacity` of the batch's delivered clips that are not measured, the first ones first."""
    rows = connection.execute(UNMEASURED, {"in_batch": batch_id, "capacity": capacity})
    return [
        UnmeasuredClip(*clip_of(row), row.clip_seconds, row.request, json.loads(row.input_digests or "{}"))
        for row in rows
    ]


def measured_clips(connection: Connection, batch_id: int) -> list[DeliveredClip]:
    return [DeliveredClip(*clip_of(row)) for row in connection.execute(SELECT_MEASURED_CLIPS, {"in_batch": batch_id})]


def clip_of(row: Any) -> tuple[int, int, str | None, DeliveredFile]:
    """The fields of a `DeliveredClip`."""
    return row.id, row.job_id, row.signature, DeliveredFile(row.key, row.number, row.path, row.bytes, row.sha256)


@dataclass(frozen=True, slots=True)
class ClipProblem:
    """What is wrong with a delivered clip, as the view `problems` has it."""

    id: str
    """Of the job."""
    path: str
    problem: str
    detail: str | None


@dataclass(frozen=True, slots=True)
class SuspectClips:
    """The clips of a batch that look wrong."""

    number: int
    problems: list[ClipProblem]
    """Of the first of them."""


def suspect_clips(connection: Connection, batch_id: int) -> SuspectClips:
    """The clips of a batch that look wrong, and what is wrong with the first of them."""
    keys = list(connection.execute(SUSPECT, {"in_batch": batch_id}).scalars())
    params = {"in_batch": batch_id, "keys": keys[:SUSPECTS_SHOWN]}
    rows = connection.execute(PROBLEMS_OF_SUSPECTS, params) if keys else ()
    return SuspectClips(len(keys), [ClipProblem(*row) for row in rows])


def record(
    connection: Connection, clip: DeliveredClip, measures: Measures | None, copy_of: int | None, now: datetime
) -> bool:
    """Record the measures of a clip; None for one that cannot be measured. `copy_of` is the row of another file.

    False where another run has done so, or the file was delivered again meanwhile.
    """
    values = asdict(measures) if measures else dict.fromkeys(Measures.__dataclass_fields__)
    params = {f"set_{name}": value for name, value in {**values, "copy_of": copy_of, "measured_at": now}.items()}
    own = {"of_output": clip.id, "of_sha256": clip.file.sha256}
    return connection.execute(RECORD, {**params, **own}).rowcount == 1


IS_UNMEASURED = IS_DELIVERED & outputs.c.measured_at.is_(None)
"""The condition of the index `ix_outputs_unmeasured`."""
SELECT_CURRENT_CLIPS = (
    select(
        *(outputs.c.id, jobs.c.id.label("job_id"), outputs.c.signature),
        *(jobs.c.key, outputs.c.number, outputs.c.path, outputs.c.bytes, outputs.c.sha256),
    )
    .select_from(CURRENT_ATTEMPTS)
    .join(outputs)
)
UNMEASURED = (
    SELECT_CURRENT_CLIPS.add_columns(jobs.c.clip_seconds, jobs.c.request, attempts.c.input_digests)
    # The sum keeps SQLite from reading all jobs of the batch: an index lists the few files that are not measured.
    .where(IS_UNMEASURED, jobs.c.batch_id + 0 == bindparam("in_batch"))
    .order_by(outputs.c.id)
    .limit(bindparam("capacity"))
)
SELECT_MEASURED_CLIPS = SELECT_CURRENT_CLIPS.where(IN_BATCH, IS_DELIVERED, outputs.c.measured_at.is_not(None)).order_by(
    outputs.c.id
)
SUSPECT = (
    select(jobs.c.key)
    .distinct()
    .select_from(CURRENT_ATTEMPTS)
    .join(outputs)
    .where(text(OUTPUT_IS_SUSPECT), jobs.c.batch_id + 0 == bindparam("in_batch"))
    .order_by(jobs.c.key)
)
VIEW = table("problems", *(column(name) for name in ("batch", "id", "output", "path", "problem", "detail")))
PROBLEMS = (
    select(VIEW.c.id, VIEW.c.path, VIEW.c.problem, VIEW.c.detail)
    .where(VIEW.c.batch == select(batches.c.name).where(batches.c.id == bindparam("in_batch")).scalar_subquery())
    .order_by(VIEW.c.id, VIEW.c.output, VIEW.c.problem)
)
PROBLEMS_OF_SUSPECTS = PROBLEMS.where(
    VIEW.c.id.in_(bindparam("keys", expanding=True)),
    VIEW.c.problem != "remark",  # which `status` shows for itself
)
RECORD = (
    update(outputs)
    .where(outputs.c.id == bindparam("of_output"), outputs.c.sha256 == bindparam("of_sha256"), IS_UNMEASURED)
    .values({name: bindparam(f"set_{name}") for name in (*Measures.__dataclass_fields__, "copy_of", "measured_at")})
)
