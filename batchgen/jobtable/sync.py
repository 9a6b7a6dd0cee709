"""The manifest becomes rows: new jobs are added, unsent ones follow it, paid ones are never touched silently."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Connection, func, insert, literal, select, update

from batchgen.errors import ManifestChanged, UsageError
from batchgen.files import local_files
from batchgen.jobs import JobSpec, State
from batchgen.jobtable import commands
from batchgen.jobtable.bulk import bulk_insert
from batchgen.jobtable.columns import UTCDateTime
from batchgen.jobtable.schema import batches, events, jobs
from batchgen.jobtable.transition import move, record

GONE = "gone from the manifest"
UNPAID = ("rejected", "input", "generation")
"""Why a job failed without costing anything: corrected, it is simply sent again."""

OnChanged = Literal["refuse", "keep", "redo"]


@dataclass(frozen=True, slots=True)
class Change:
    """A job that was sent to the service and reads otherwise in the manifest now."""

    key: str
    state: State
    place: str
    differences: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.place}: {self.key} ({self.state}): " + "; ".join(self.differences)


@dataclass(slots=True)
class SyncResult:
    """What enrolling a manifest did: counts of jobs, and those that were changed after they were sent."""

    batch_id: int
    new: int = 0
    edited: int = 0
    unchanged: int = 0
    gone: int = 0
    redone: int = 0
    occupied: list[str] = field(default_factory=list)
    """Outputs of new jobs that exist already: they are somebody's, or another job table's."""
    changed: list[Change] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Batch:
    """A manifest's identity in the database."""

    name: str
    service: str
    manifest: Path
    sha256: str


def fingerprint(spec: JobSpec) -> str:
    """What a job costs money for: another fingerprint is another video."""
    return hashlib.sha256(f"{spec.endpoint}\n{spec.request}".encode()).hexdigest()


def open_batch(connection: Connection, batch: Batch, now: datetime) -> int:
    """The row of a batch, made or brought up to date. Raises `UsageError` where the name is somebody else's."""
    row = connection.execute(select(batches).where(batches.c.name == batch.name)).one_or_none()
    values = {"manifest_path": str(batch.manifest), "manifest_sha256": batch.sha256, "enrolled_at": now}
    if row is None:
        born = {"name": batch.name, "service": batch.service, "created_at": now}
        added = insert(batches).values(**born, **values, spent=Decimal(0), reserved=Decimal(0), unpriced=0)
        key = connection.execute(added.returning(batches.c.id)).scalar_one()
        return int(key)
    if row.service != batch.service:
        raise UsageError(
            f"{batch.manifest}: the batch {batch.name!r} was begun with service {row.service}, and the manifest now"
            f" says {batch.service}. Give it another `batch:` name, or another database with --db."
        )
    other = Path(row.manifest_path)
    if other != batch.manifest and other.exists() and not other.samefile(batch.manifest):
        raise UsageError(
            f"{batch.manifest}: this database already holds a batch {batch.name!r}, from {other}."
            " Give this one another `batch:` name, or another database with --db."
        )
    connection.execute(update(batches).where(batches.c.id == row.id).values(**values))
    return int(row.id)


def sent_keys(connection: Connection, batch: str) -> set[str]:
    """The keys of the jobs that no longer need anything from the manifest's side."""
    waiting = jobs.c.state.in_([State.PENDING, State.CANCELLED])
    of_batch = select(jobs.c.key).join(batches, jobs.c.batch_id == batches.c.id).where(batches.c.name == batch)
    return set(connection.execute(of_batch.where(~waiting)).scalars())


def sync_manifest(
    connection: Connection, batch: Batch, specs: Sequence[JobSpec], now: datetime, on_changed: OnChanged = "refuse"
) -> SyncResult:
    """Bring the job table up to date with a manifest, whole or not at all.

    Raises `ManifestChanged` where jobs that were already sent read otherwise and `on_changed` is "refuse".
    """
    result = SyncResult(open_batch(connection, batch, now))
    columns = (
        "id",
        "batch_id",
        "key",
        "state",
        "fingerprint",
        "output_path",
        "priority",
        "tags",
        "input_digests",
        "error_class",
        "leased_by",
    )
    found = select(*(jobs.c[name] for name in columns)).where(jobs.c.batch_id == result.batch_id)
    rows = {row.key: row for row in connection.execute(found)}
    fresh: list[JobSpec] = []
    paid_and_changed: list[tuple[Any, JobSpec]] = []
    for spec in specs:
        row = rows.pop(spec.key, None)
        if row is None:
            fresh.append(spec)
        elif row.state in (State.PENDING, State.CANCELLED):
            followed = follow(connection, row, spec, now)
            result.edited += followed
            result.unchanged += not followed
        elif row.fingerprint == fingerprint(spec) and not local_files.changed(batch.manifest.parent, row.input_digests):
            if row.output_path != spec.output and row.state != State.DONE and row.leased_by is None:
                connection.execute(update(jobs).where(jobs.c.id == row.id).values(output_path=spec.output))
            result.unchanged += 1
        elif row.state == State.FAILED and on_changed != "keep" and (row.error_class in UNPAID or on_changed == "redo"):
            revive(connection, row, spec, now)
            result.edited += 1
        else:
            paid_and_changed.append((row, spec))
    cancelled: dict[str, Any] = {"cancelled_at": now, "error_class": "gone", "error": GONE, "next_at": None}
    for row in rows.values():
        if row.state == State.PENDING:
            result.gone += move(connection, row.id, State.PENDING, State.CANCELLED, now, detail=GONE, **cancelled)
    result.changed = [difference(connection, row, spec, batch) for row, spec in paid_and_changed]
    if result.changed and on_changed == "refuse":
        raise ManifestChanged(
            f"{batch.manifest}: {len(result.changed)} job(s) were changed after they were sent and may be paid for:\n"
            + "\n".join(f"  {change}" for change in result.changed)
            + "\nNothing has been sent. Run again with --changed keep (collect what was paid for, as it was asked then)"
            "\nor --changed redo (collect it under another name and pay for a new one)."
        )
    if on_changed == "redo":
        for row, spec in paid_and_changed:
            archive_version(connection, row, batch, now)
            fresh.append(spec)
        result.redone = len(paid_and_changed)
    result.unchanged += len(paid_and_changed) - result.redone
    result.occupied = occupied(batch.manifest.parent, fresh)
    add(connection, result.batch_id, batch.service, fresh, now)
    result.new = len(fresh) - result.redone
    return result


def follow(connection: Connection, row: Any, spec: JobSpec, now: datetime) -> bool:
    """An unsent job becomes what the manifest says now; one that came back to the manifest is pending again."""
    back = row.state == State.CANCELLED and row.error_class == "gone"
    values = columns_of(spec, fingerprint(spec))
    followed = ("fingerprint", "output_path", "priority", "tags")
    if not back and all(getattr(row, name) == values[name] for name in followed):
        return False
    connection.execute(update(jobs).where(jobs.c.id == row.id, jobs.c.state == row.state).values(**values))
    if back:
        move(connection, row.id, State.CANCELLED, State.PENDING, now, detail="back in the manifest", cancelled_at=None)
    return True


def revive(connection: Connection, row: Any, spec: JobSpec, now: datetime) -> None:
    """A failed job that was corrected in the manifest is pending again, as it reads now; its attempts stay."""
    connection.execute(update(jobs).where(jobs.c.id == row.id).values(**columns_of(spec, fingerprint(spec))))
    commands.retry(connection, row.batch_id, [row.key], now)


def columns_of(spec: JobSpec, print_: str) -> dict[str, Any]:
    """The columns of a job that come from the manifest."""
    return {
        "priority": spec.priority,
        "endpoint": spec.endpoint,
        "model": spec.model,
        "request": spec.request,
        "input_pointers": listed(spec.input_pointers),
        "fingerprint": print_,
        "tags": listed(spec.tags),
        "output_path": spec.output,
    }


def listed(words: tuple[str, ...]) -> str:
    """Words as a JSON list."""
    return json.dumps(words, ensure_ascii=False) if words else "[]"


def add(connection: Connection, batch_id: int, service: str, specs: Sequence[JobSpec], now: datetime) -> None:
    """New rows, with the event that began each."""
    if not specs:
        return
    newest = connection.execute(select(func.coalesce(func.max(jobs.c.id), 0))).scalar_one()
    born = {
        "batch_id": batch_id,
        "service": service,
        "state": State.PENDING.value,
        "attempts": 0,
        "failures": 0,
        "created_at": now,
    }
    names = ("key", *columns_of(specs[0], ""))
    bulk_insert(
        connection, jobs, born, names, ((spec.key, *columns_of(spec, fingerprint(spec)).values()) for spec in specs)
    )
    beginning = select(jobs.c.id, literal(now, UTCDateTime), literal(State.PENDING.value), literal("enrolled")).where(
        jobs.c.batch_id == batch_id, jobs.c.id > newest
    )
    told = ("job_id", "at", "to_state", "detail")
    connection.execute(insert(events).from_select(told, beginning.order_by(jobs.c.id)))


def occupied(folder: Path, specs: Sequence[JobSpec]) -> list[str]:
    """The outputs at which something lies already. A folder that is not there is looked for once."""
    there = cache(os.path.isdir)
    found = []
    for spec in specs:
        path = f"{folder}/{spec.output}"
        if there(path.rpartition("/")[0]) and os.path.exists(path):  # noqa: PTH110  a hundred thousand of them
            found.append(spec.output)
    return found


def difference(connection: Connection, row: Any, spec: JobSpec, batch: Batch) -> Change:
    """What changed in a job since it was sent, a phrase each."""
    then = connection.execute(select(jobs.c.endpoint, jobs.c.request).where(jobs.c.id == row.id)).one()
    before: dict[str, Any] = json.loads(then.request)
    after: dict[str, Any] = json.loads(spec.request)
    told = [
        f"{name}: {short(before.get(name))} → {short(after.get(name))}"
        for name in dict.fromkeys((*before, *after))
        if before.get(name) != after.get(name)
    ]
    if then.endpoint != spec.endpoint:
        told.append(f"endpoint: {then.endpoint} → {spec.endpoint}")
    told += [f"the content of {name}" for name in local_files.changed(batch.manifest.parent, row.input_digests)]
    return Change(row.key, State(row.state), spec.place, tuple(told) or ("the order of its parameters",))


def short(value: Any, longest: int = 60) -> str:
    """A value as a diff shows it."""
    text = "(none)" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= longest else text[: longest - 1] + "…"


def archive_version(connection: Connection, row: Any, batch: Batch, now: datetime) -> None:
    """Make room for a job's new version: the old row keeps its generation and its video under a name of its own."""
    folder, old = batch.manifest.parent, Path(row.output_path)
    names = ((f"{row.key}~{n}", old.with_name(f"{old.stem}~{n}{old.suffix}")) for n in count(1))
    # A file there is somebody's, unless ours has gone: then an earlier try of this order moved it.
    in_the_way = (folder / old).exists()
    key, aside = next(
        (k, path)
        for k, path in names
        if not commands.states_of(connection, row.batch_id, [k]) and not (in_the_way and (folder / path).exists())
    )
    # The file first: if the row never follows, the same order given again finds the file moved already.
    with suppress(FileNotFoundError):
        (folder / old).rename(folder / aside)
    connection.execute(update(jobs).where(jobs.c.id == row.id).values(key=key, output_path=aside.as_posix()))
    record(connection, row.id, now, State(row.state), State(row.state), f"set aside as {key}")
