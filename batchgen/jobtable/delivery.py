"""downloading → done: the files first, the row last; and whether what was delivered is still there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Executable, bindparam, select, text

from batchgen import clock
from batchgen.errors import os_reason
from batchgen.files.delivered import DeliveredFile, LostFile, losses_of
from batchgen.files.liveness import host_name
from batchgen.jobs import Job, Output, State
from batchgen.jobtable.joins import CURRENT_ATTEMPTS, CURRENT_FILES, IN_BATCH, IS_DELIVERED
from batchgen.jobtable.rows import load_jobs
from batchgen.jobtable.schema import attempts, batches, jobs, outputs, runs
from batchgen.jobtable.statistics import STUCK_FAILURES
from batchgen.jobtable.transition import (
    DUE,
    NO_LEASE,
    Claim,
    Increment,
    change_state,
    guarded_statement,
    guarded_update,
    lease,
    update_leased,
)

LOOK_FOR_FILES = timedelta(seconds=2)
"""So long delivered files are looked for: some 200,000 on a local disk, far fewer on a slow network disk."""
REMARKS_READ = 20
FILES_AT_ONCE = 500
"""Delivered files that are looked at between two readings of the clock."""


@dataclass(frozen=True, slots=True)
class LostFiles:
    """The delivered files that are not there as they were."""

    files: list[LostFile]
    checked: int
    """How many delivered files were looked at."""
    is_all: bool = True
    """Whether that was every delivered file, or as many as the time allowed."""
    unreadable: str = ""
    """Why the others could not be looked at: their store does not answer. They are not lost for that."""
    may_be_elsewhere: bool = False
    """Whether other machines have worked on the batch, which deliver into folders of their own."""

    @property
    def remark(self) -> str:
        return "; other machines worked on this batch, and may have them" if self.may_be_elsewhere else ""

    def listed(self, most: int) -> str:
        """The first of them, and how many more there are."""
        more = f"; and {len(self.files) - most} more" if len(self.files) > most else ""
        return "; ".join(map(str, self.files[:most])) + more + self.remark


class PlacedFile(NamedTuple):
    """A whole file that has its name."""

    bytes: int
    sha256: str
    path: str
    remark: str | None = None
    """What a person should know of it."""


def claim_downloads(connection: Connection, claim: Claim, *, results_expire: bool = False) -> list[Job]:
    """Lease due downloads: the longest due first, or what the service deletes first."""
    statement = LEASE_EXPIRING if results_expire else LEASE_DUE
    rows = connection.execute(statement, claim.params(State.DOWNLOADING))
    return load_jobs(connection, list(rows.scalars()), with_outputs=True)


def begun(connection: Connection, job: Job, run_id: str, output: Output, etag: str | None) -> str | None:
    """The `.part` on the disk belongs to this version of the file, so that it can be resumed later."""
    return update_output(connection, job, run_id, output, etag=etag)


def relocated(connection: Connection, job: Job, run_id: str, output: Output, url: str) -> str | None:
    """The service gave a new address for the same file."""
    return update_output(connection, job, run_id, output, url=url)


def refused(connection: Connection, job: Job, run_id: str, output: Output, counts: str) -> str | None:
    """Bytes came that do not play as they should: keep how often each came, as JSON of SHA-256 → times."""
    return update_output(connection, job, run_id, output, refused=counts)


def verified(
    connection: Connection,
    job: Job,
    run_id: str,
    output: Output,
    size: int,
    sha256: str,
    media: Mapping[str, Any] = MappingProxyType({}),
) -> str | None:
    """The `.part` is whole. Written before the rename, so that after a crash the renamed file is recognised as ours.

    `media` has the columns that describe the video, as far as they are known. Returns the output of the job as it is
    now: a redo gives the job another one while its file is on its way. None if the lease was lost.
    """
    return update_output(connection, job, run_id, output, bytes=size, sha256=sha256, **media)


def first_file(attempt_id: int) -> tuple[ColumnElement[bool], ...]:
    """The conditions for the row of an attempt's first file, which lies at the job's own path once it is delivered."""
    return outputs.c.attempt_id == attempt_id, outputs.c.number == 1, outputs.c.path.is_not(None)


def update_output(connection: Connection, job: Job, run_id: str, output: Output, **values: Any) -> str | None:
    """Change the row of a file on its way, while the run `run_id` leases its job. Returns the output of the job.

    None if the lease was lost, or another task of the run has placed the file.
    """
    held = {"is_id": output.id, "of_job": job.id, "in_state": job.state, "run_id": run_id}
    new = {f"set_{name}": value for name, value in values.items()}
    path: str | None = connection.execute(leased_output((*values,)), held | new).scalar()
    return path


@cache
def leased_output(names: tuple[str, ...]) -> Executable:
    """The UPDATE of these columns of a file whose job a run leases. It is built once, so that it is compiled once."""
    on_its_way = (outputs.c.delivered_at.is_(None), LEASED.exists())
    return guarded_statement(outputs, ("id",), names, ()).where(*on_its_way).returning(LEASED.scalar_subquery())


def is_over(connection: Connection, job: Job) -> bool:
    """Whether a job has ended meanwhile: another run has delivered it, or a person has given it up."""
    return State(connection.execute(select(jobs.c.state).where(jobs.c.id == job.id)).scalar_one()).is_terminal


def postponed(connection: Connection, job: Job, run_id: str, reason: str, next_at: datetime) -> bool:
    """This try failed: keep why, and try again at `next_at`. A paid video is never given up."""
    return update_leased(connection, job, run_id, failures=Increment(1), error=reason, next_at=next_at, **NO_LEASE)


def left_to_next_run(connection: Connection, job: Job, run_id: str, reason: str, next_at: datetime) -> bool:
    """The file cannot be written now: keep why, and do not wait for it. The next run tries again, or `next_at`."""
    failures = max(job.failures + 1, STUCK_FAILURES)
    return update_leased(connection, job, run_id, failures=failures, error=reason, next_at=next_at, **NO_LEASE)


def placed(connection: Connection, job: Job, run_id: str, output: Output, file: PlacedFile, now: datetime) -> bool:
    """The whole file is at its path; with the last one, the job is done.

    False if the lease was lost, or another task of the run has placed the file.
    """
    if not update_output(connection, job, run_id, output, **file._asdict(), delivered_at=now):
        return False
    guarded_update(connection, batches, {"id": job.batch_id}, {"delivered_bytes": Increment(file.bytes)})
    # The job's path is that of its first file, which need not be the last to arrive.
    moved = {"output_path": file.path} if output.number == 1 else {}
    if len(job.outputs) > 1 and connection.execute(UNDELIVERED, {"of_attempt": job.attempt.id}).first():
        return not moved or update_leased(connection, job, run_id, **moved)
    detail, leased = f"{file.path}: {file.remark}" if file.remark else file.path, {"leased_by": run_id}
    new = {"error": file.remark, **moved}
    return change_state(connection, job, State.DOWNLOADING, State.DONE, now, guard=leased, detail=detail, **new)


def lost_files(
    connection: Connection,
    batch_id: int,
    folder: Path,
    keys: Sequence[str] | None = None,
    *,
    verify: bool = False,
    until: datetime | None = None,
) -> LostFiles:
    """The delivered files that are not there as they were, of these jobs or of all, the newest first.

    It looks at files until the time `until`; with `verify` it reads their content, for which there is no such limit.
    """
    lost: list[LostFile] = []
    number = 0
    for key in keys if keys is not None else (None,):
        statement = SELECT_DELIVERED_FILES if key is None else SELECT_DELIVERED_FILES.where(jobs.c.key == key)
        rows = connection.execute(statement.execution_options(yield_per=FILES_AT_ONCE), {"in_batch": batch_id})
        for page in rows.partitions():
            files = [DeliveredFile(*row) for row in page]
            try:
                lost += filter(None, losses_of(folder, files, verify=verify))
            except OSError as error:
                return LostFiles(lost, number, is_all=False, unreadable=f"{error.filename}: {os_reason(error)}")
            if hidden := next((entry for entry in lost if entry.is_unreadable), None):
                return LostFiles([], number, is_all=False, unreadable=f"{folder / hidden.file.path}: {hidden.fault}")
            number += len(files)
            if until and not verify and len(files) == FILES_AT_ONCE and clock.utcnow() >= until:
                return LostFiles(lost, number, is_all=False, may_be_elsewhere=worked_elsewhere(connection, batch_id))
    return LostFiles(lost, number, may_be_elsewhere=bool(lost) and worked_elsewhere(connection, batch_id))


def worked_elsewhere(connection: Connection, batch_id: int) -> bool:
    other = select(runs.c.id).where(runs.c.batch_id == batch_id, runs.c.host != host_name())
    return connection.execute(other.limit(1)).first() is not None


def remarks(connection: Connection, batch_id: int, capacity: int = REMARKS_READ) -> list[str]:
    """What a person should know about delivered files, the newest first."""
    rows = connection.execute(REMARKS, {"in_batch": batch_id, "capacity": capacity})
    return [f"{row.key}: {row.path}: {row.remark}" for row in rows]


LEASE_DUE = lease(DUE.order_by(jobs.c.next_at))
LEASE_EXPIRING = lease(
    DUE.join(attempts, attempts.c.id == jobs.c.attempt_id).order_by(attempts.c.collect_by.nulls_last(), jobs.c.next_at)
)
"""What the service deletes first, first. SQLite would put those without such a time in front, PostgreSQL at the end."""

LEASED = select(jobs.c.output_path).where(
    jobs.c.id == bindparam("of_job"), jobs.c.state == bindparam("in_state"), jobs.c.leased_by == bindparam("run_id")
)

UNDELIVERED = select(outputs.c.id).where(
    outputs.c.attempt_id == bindparam("of_attempt"), outputs.c.delivered_at.is_(None)
)

REMARKS = (
    select(jobs.c.key, outputs.c.path, outputs.c.remark)
    .select_from(CURRENT_ATTEMPTS)
    .join(outputs)
    # The sum keeps SQLite from reading all jobs of the batch: few files have a remark, which an index lists.
    .where(text("outputs.remark IS NOT NULL"), jobs.c.batch_id + 0 == bindparam("in_batch"))
    .order_by(outputs.c.attempt_id.desc())
    .limit(bindparam("capacity"))
)
SELECT_DELIVERED_FILES = (
    select(jobs.c.key, outputs.c.number, outputs.c.path, outputs.c.bytes, outputs.c.sha256)
    .select_from(CURRENT_FILES)
    .where(IN_BATCH, jobs.c.state == State.DONE, IS_DELIVERED)
    .order_by(jobs.c.next_at.desc(), jobs.c.id.desc())  # as the index ix_jobs_due has them: nothing is sorted
)
