"""Rows as values: a job with its current attempt and, for a download, the files of its generation. And the ids and keys
of rows, a statement's worth at a time."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, Row, Select, bindparam, select

from batchgen.jobs import PAID_FAILURES, Attempt, Job, Output
from batchgen.jobtable.schema import attempts, jobs, outputs

T = TypeVar("T")

CHUNK = 500
"""Ids or keys in one statement: below the least number of parameters that any SQLite allows (999)."""
JOB_FIELDS = tuple(name for name in Job.__dataclass_fields__ if name not in ("attempt", "outputs"))
ATTEMPT_FIELDS = tuple(Attempt.__dataclass_fields__)
OUTPUT_FIELDS = tuple(Output.__dataclass_fields__)


def load_jobs(connection: Connection, ids: Collection[int], *, with_outputs: bool = False) -> list[Job]:
    """The jobs of these row ids, each with its current attempt, in the manifest's order."""
    if not ids:
        return []
    files: dict[int, list[Output]] = {}
    if with_outputs:
        for row in connection.execute(SELECT_OUTPUTS, {"ids": ids}):
            files.setdefault(row[0], []).append(Output(*row[1:]))
    rows = connection.execute(SELECT_JOBS, {"ids": ids})
    return sorted((to_job(row, files.get(row[0], ())) for row in rows), key=lambda job: job.id)


def to_job(row: Row[Any], files: Sequence[Output]) -> Job:
    fields = dict(zip(JOB_FIELDS, row, strict=False))
    fields["input_pointers"] = tuple(json.loads(fields["input_pointers"]))
    remote = dict(zip(ATTEMPT_FIELDS, row[len(JOB_FIELDS) :], strict=True))
    remote["handle"] = json.loads(remote["handle"] or "{}")
    in_order = tuple(sorted(files, key=lambda output: output.number))
    return Job(**fields, attempt=Attempt(**remote), outputs=in_order)


def chunks_of(values: Sequence[T], first: int = 0, size: int | None = None) -> Iterator[Sequence[T]]:
    """The values from the place `first` on, in chunks of `size`, or of what one statement takes."""
    size = size or CHUNK
    return (values[start : start + size] for start in range(first, len(values), size))


def rows_among(
    connection: Connection,
    statement: Select[Any],
    column: ColumnElement[Any],
    values: Iterable[Any],
    params: Mapping[str, Any] | None = None,
) -> Iterator[Row[Any]]:
    """The rows of a statement that have one of these values in a column. There may be any number of values."""
    for chunk in chunks_of(list(dict.fromkeys(values))):
        yield from connection.execute(statement.where(column.in_(chunk)), params)


def keys_of(connection: Connection, ids: Collection[int]) -> frozenset[str]:
    return frozenset(row.key for row in rows_among(connection, select(jobs.c.key), jobs.c.id, ids))


def ids_of(connection: Connection, batch_id: int, keys: Collection[str]) -> frozenset[int]:
    """The row ids of a batch's jobs by their keys; a key that is not in the batch is missing."""
    of_batch = select(jobs.c.id).where(jobs.c.batch_id == batch_id)
    return frozenset(row.id for row in rows_among(connection, of_batch, jobs.c.key, keys))


def may_be_charged(row: Any) -> bool:
    """Whether a job without a video may have cost money: the service has its generation, or may have it. A cost of 0
    proves nothing of a failure such as an expired result: only what was made and paid for expires."""
    is_taken = row.outcome is not None and row.outcome.may_be_paid
    return is_taken and (row.cost_usd != 0 or row.error_class in PAID_FAILURES)


SELECT_JOBS = (
    select(*(jobs.c[name] for name in JOB_FIELDS), *(attempts.c[name] for name in ATTEMPT_FIELDS))
    .join_from(jobs, attempts, jobs.c.attempt_id == attempts.c.id)
    .where(jobs.c.id.in_(bindparam("ids", expanding=True)))
)

SELECT_OUTPUTS = (
    select(jobs.c.id, *(outputs.c[name] for name in OUTPUT_FIELDS))
    .join_from(jobs, outputs, jobs.c.attempt_id == outputs.c.attempt_id)
    .where(jobs.c.id.in_(bindparam("ids", expanding=True)))
)
