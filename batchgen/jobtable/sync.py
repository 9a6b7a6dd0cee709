"""The manifest becomes rows: new jobs are added, unsent ones follow it, paid ones are never changed silently."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Connection, bindparam, case, func, insert, literal, select, update

from batchgen.errors import ManifestChanged
from batchgen.files.local_files import FileDigests
from batchgen.files.outputs import unnumbered
from batchgen.jobs import ErrorClass, JobSpec, State
from batchgen.jobtable import commands, pricelist, settings
from batchgen.jobtable.batches import Batch, upsert_batch
from batchgen.jobtable.changes import Change, archive_version, describe_change, refusal
from batchgen.jobtable.columns import UTCDateTime
from batchgen.jobtable.engine import allow_idle
from batchgen.jobtable.fingerprint import fingerprint_of, input_files
from batchgen.jobtable.joins import CURRENT_OR_NONE
from batchgen.jobtable.rows import chunks_of, may_be_charged
from batchgen.jobtable.schema import attempts, events, jobs
from batchgen.jobtable.transition import change_state

CHUNK_ROWS = 5_000
"""Rows inserted at once: bounds the memory for their values, and is large enough that the size no longer matters."""
LABELS = (jobs.c.priority, jobs.c.tags)
"""The columns of the manifest that are no part of the request: they follow it after a job was sent, too."""
READ_COLUMNS = (
    *(jobs.c.id, jobs.c.batch_id, jobs.c.key, jobs.c.state, jobs.c.fingerprint, jobs.c.output_path, *LABELS),
    *(jobs.c.error_class, jobs.c.leased_by, jobs.c.attempt_id, jobs.c.parent_batch, jobs.c.parent_key),
    *(attempts.c.input_digests, attempts.c.outcome, attempts.c.cost_usd),
    # A file may get another name and keep its content, which is all that the fingerprint shows.
    case((jobs.c.input_pointers != "[]", jobs.c.request)).label("request"),
)
"""The columns that are compared with the manifest."""
STAYS_SHOWN = 5  # clips that are named in a warning

OnChanged = Literal["refuse", "keep", "redo"]
Pair = tuple[Any, JobSpec]
"""The row of a job, and what the manifest has under its name."""


@dataclass(slots=True)
class Sides:
    """The jobs of a batch and of its manifest, each in one of these lists."""

    new: list[JobSpec] = field(default_factory=list)
    unsent: list[Pair] = field(default_factory=list)
    same: list[Pair] = field(default_factory=list)
    """Sent, as the manifest has them."""
    corrected: list[Pair] = field(default_factory=list)
    """Failed for nothing, and edited since: they are simply sent again."""
    changed: list[Pair] = field(default_factory=list)
    """Edited since they were sent, and may be paid for: a person decides."""
    gone: list[Any] = field(default_factory=list)
    """The rows of jobs that are not in the manifest."""


@dataclass(frozen=True, slots=True)
class SyncResult:
    """What a sync did: counts of jobs, and the jobs that changed after they were sent."""

    batch_id: int
    new: int = 0
    edited: int = 0
    unchanged: int = 0
    gone: int = 0
    redone: int = 0
    orphans: frozenset[int] = frozenset()
    """The row ids of jobs that were sent, and whose request the manifest does not ask for under their name any more."""
    edited_after: frozenset[int] = frozenset()
    """Those of them that stand in the manifest, with another request."""
    recalled: int = 0
    """Orders to pay once more that `keep` has taken back."""
    changed: Sequence[Change] = ()
    stays: Sequence[str] = ()
    """Of each delivered job whose output was edited: where its clip stays."""

    @property
    def gone_after(self) -> frozenset[int]:
        """The orphans that the manifest does not name at all: they left it, or are an earlier version of a job."""
        return self.orphans - self.edited_after

    @property
    def has_changes(self) -> bool:
        """Whether jobs are pending that were not compared with the service's log as they are now."""
        return bool(self.new or self.edited or self.redone or self.recalled)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person may not expect, in a few lines."""
        more = len(self.stays) - STAYS_SHOWN
        return (*self.stays[:STAYS_SHOWN], *([f"and so do the clips of {more} more jobs"] if more > 0 else []))


def sync_manifest(
    connection: Connection,
    batch: Batch,
    specs: Sequence[JobSpec],
    now: datetime,
    on_changed: OnChanged = "refuse",
    digests: FileDigests | None = None,
    *,
    chosen: Collection[str] | None = None,
    is_trial: bool = False,
) -> SyncResult:
    """Bring the job table up to date with a manifest, wholly or not at all.

    A redo makes the edited jobs again that are `chosen`, by their keys, and leaves the others; None: all of them.
    Raises `ManifestChanged` where jobs changed after they were sent, `on_changed` is "refuse" and this is no trial.
    """
    allow_idle(connection)  # the fingerprints of a million jobs take a while
    digests = digests or FileDigests(batch.manifest.parent)
    batch_id = upsert_batch(connection, batch, now, specs, digests)
    sides = compare(connection, batch_id, specs, digests, on_changed)
    followed = sum(follow_manifest(connection, row, manifest_columns(spec, digests), now) for row, spec in sides.unsent)
    send_corrected(connection, sides.corrected, digests, now)
    stays = follow_names(connection, sides.same)
    gone, orphans = cancel_gone(connection, sides.gone, now)
    changes = [describe_change(connection, row, spec, batch.manifest) for row, spec in sides.changed]
    if changes and on_changed == "refuse" and not is_trial:
        raise ManifestChanged(explain_refusal(connection, batch, sides, changes, digests))
    redone = [pair for pair in sides.changed if on_changed == "redo" and (chosen is None or pair[0].key in chosen)]
    taken = {spec.key for spec in specs}
    for row, _ in redone:
        archive_version(connection, row, batch.manifest.parent, now, taken)
    add_jobs(connection, batch_id, batch.service, [*sides.new, *(spec for _, spec in redone)], digests, now)
    edited = frozenset(row.id for row, _ in sides.changed)
    result = SyncResult(
        batch_id,
        new=len(sides.new),
        edited=followed + len(sides.corrected),
        unchanged=len(sides.unsent) - followed + len(sides.same) + len(changes) - len(redone),
        gone=gone,
        redone=len(redone),
        orphans=orphans | edited,
        edited_after=edited - {row.id for row, _ in redone},
        recalled=recall_orders(connection, batch_id) if on_changed == "keep" else 0,
        changed=changes,
        stays=stays,
    )
    if result.has_changes:
        settings.record_comparison(connection, batch_id, None)
    return result


def compare(
    connection: Connection, batch_id: int, specs: Sequence[JobSpec], digests: FileDigests, on_changed: OnChanged
) -> Sides:
    """Read the jobs of a batch, and put each beside what the manifest has under its key."""
    of_batch = select(*READ_COLUMNS).select_from(CURRENT_OR_NONE).where(jobs.c.batch_id == batch_id)
    rows: dict[str, Any] = {row.key: row for row in connection.execute(of_batch)}
    sides = Sides()
    for spec in specs:
        row = rows.pop(spec.key, None)
        if row is None:
            sides.new.append(spec)
        elif not was_sent(row):
            sides.unsent.append((row, spec))
        elif row.fingerprint == fingerprint_of(spec, digests, row.input_digests):
            sides.same.append((row, spec))
        elif has_failed_for_nothing(row) and on_changed != "keep":
            sides.corrected.append((row, spec))
        else:
            sides.changed.append((row, spec))
    sides.gone = [*rows.values()]
    return sides


def explain_refusal(
    connection: Connection, batch: Batch, sides: Sides, changes: Sequence[Change], digests: FileDigests
) -> str:
    """Why nothing is sent, with the cost of a redo, and how many jobs ask for what a changed one was sent for."""
    edited = [spec for _, spec in sides.changed]
    sent = {row.fingerprint for row, _ in sides.changed}
    moved = sum(fingerprint_of(spec, digests) in sent for spec in (*sides.new, *edited))
    return refusal(batch.manifest, changes, moved, pricelist.cost_of(connection, batch.service, edited))


def was_sent(row: Any) -> bool:
    """Whether a create request was begun for a job, which may be paid for."""
    return row.attempt_id is not None or not row.state.is_unsent


def follow_manifest(connection: Connection, row: Any, values: dict[str, Any], now: datetime) -> bool:
    """Update an unsent job; one that has come back to the manifest is pending again. False if nothing changed."""
    is_back = row.state == State.CANCELLED and row.error_class == ErrorClass.GONE
    names = ["fingerprint", "output_path", "parent_batch", "parent_key", *(column.name for column in LABELS)]
    if row.request:  # only that of a job with local files was read
        names.append("request")
    if not is_back and all(getattr(row, name) == values[name] for name in names):
        return False
    connection.execute(update(jobs).where(jobs.c.id == row.id, jobs.c.state == row.state).values(**values))
    if is_back:
        change_state(connection, row, State.CANCELLED, State.PENDING, now, detail="back in the manifest")
    return True


def follow_names(connection: Connection, same: Sequence[Pair]) -> list[str]:
    """Take over labels and outputs of jobs whose request is as it was sent. Returns, in words, which clips stay."""
    stays: list[str] = []
    relabelled: list[dict[str, Any]] = []
    for row, spec in same:
        is_moved, is_delivered = row.output_path != spec.output, row.state == State.DONE
        if is_moved and not is_delivered and row.leased_by is None:  # No run is writing a file there.
            connection.execute(update(jobs).where(jobs.c.id == row.id).values(output_path=spec.output))
        if is_moved and is_delivered and spec.output != unnumbered(row.output_path):
            stays.append(f"{row.key}: its clip stays {row.output_path}, although `output` is {spec.output} now")
        labels = labels_of(spec)
        if any(getattr(row, name) != value for name, value in labels.items()):
            relabelled.append({"of_job": row.id, **labels})
    if relabelled:
        connection.execute(UPDATE_LABELS, relabelled)
    return stays


def send_corrected(connection: Connection, corrected: Sequence[Pair], digests: FileDigests, now: datetime) -> None:
    """Make failed jobs pending again, as the manifest has them now."""
    for row, spec in corrected:
        connection.execute(update(jobs).where(jobs.c.id == row.id).values(manifest_columns(spec, digests)))
        commands.renew(connection, row, now)


def cancel_gone(connection: Connection, rows: Iterable[Any], now: datetime) -> tuple[int, frozenset[int]]:
    """Cancel jobs that have left the manifest and cost nothing. What may be paid for is an orphan.

    Returns how many are cancelled, and the row ids of the orphans.
    """
    number, orphans = 0, set()
    for row in rows:
        leaving = State.FAILED if has_failed_for_nothing(row) else State.PENDING
        number += commands.cancel_row(connection, row, ErrorClass.GONE, commands.GONE, now, leaving)
        if was_sent(row) and leaving is State.PENDING:
            orphans.add(row.id)
    return number, frozenset(orphans)


def recall_orders(connection: Connection, batch_id: int) -> int:
    """Take back the orders to pay once more for the requests of pending jobs. Returns how many there were."""
    ordered = (jobs.c.batch_id == batch_id, jobs.c.state == State.PENDING, jobs.c.repeat_ordered.is_not(None))
    return connection.execute(update(jobs).where(*ordered).values(repeat_ordered=None)).rowcount


def has_failed_for_nothing(row: Any) -> bool:
    """Whether a job failed that may simply be sent again. One that may be charged is a person's choice, and keeps its
    row under another name then."""
    return row.state == State.FAILED and not may_be_charged(row)


def manifest_columns(spec: JobSpec, digests: FileDigests) -> dict[str, Any]:
    parent_batch, parent_key = spec.parent or (None, None)
    return {
        **labels_of(spec),
        "endpoint": spec.endpoint,
        "model": spec.model,
        "request": spec.request,
        "clip_seconds": spec.clip_seconds,
        "input_pointers": json_list(spec.input_pointers),
        "input_files": input_files(spec, digests),
        "take": spec.take,
        "fingerprint": fingerprint_of(spec, digests),
        "output_path": spec.output,
        "parent_batch": parent_batch,
        "parent_key": parent_key,
    }


def labels_of(spec: JobSpec) -> dict[str, Any]:
    return {"priority": spec.priority, "tags": json_list(spec.tags)}


def json_list(texts: tuple[str, ...]) -> str:
    return json.dumps(texts, ensure_ascii=False) if texts else "[]"


def add_jobs(
    connection: Connection, batch_id: int, service: str, specs: Sequence[JobSpec], digests: FileDigests, now: datetime
) -> None:
    """Insert new jobs, and an event for each."""
    if not specs:
        return
    newest = connection.execute(select(func.coalesce(func.max(jobs.c.id), 0))).scalar_one()
    new = {"batch_id": batch_id, "service": service, "state": State.PENDING, "failures": 0, "created_at": now}
    for chunk in chunks_of(specs, size=CHUNK_ROWS):
        rows = [{"key": spec.key, **new, **manifest_columns(spec, digests)} for spec in chunk]
        connection.execute(insert(jobs), rows)
    constants = (literal(now, UTCDateTime), literal(State.PENDING.value), literal("added"))
    added = select(jobs.c.batch_id, jobs.c.id, *constants).where(jobs.c.batch_id == batch_id, jobs.c.id > newest)
    columns = ("batch_id", "job_id", "at", "to_state", "detail")
    connection.execute(insert(events).from_select(columns, added.order_by(jobs.c.id)))


UPDATE_LABELS = update(jobs).where(jobs.c.id == bindparam("of_job"))
