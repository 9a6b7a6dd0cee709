"""What a person is asked of repeats and says: they are kept, under the manifest's names now, or are paid for again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, insert, select, update

from batchgen.catalogue.wording import plural
from batchgen.errors import ManifestChanged, UsageError
from batchgen.files.output_paths import is_url
from batchgen.files.outputs import OutputFolder
from batchgen.jobs import ChargeSource, ErrorClass, Job, State
from batchgen.jobtable import commands, delivery, ledger, lineage, moves, polling, pricelist, reconciliation, submission
from batchgen.jobtable.repeats import ONLY_IN_LOG, ORDERED_AGAIN, Repeat
from batchgen.jobtable.rows import load_jobs
from batchgen.jobtable.schema import attempts, batches, jobs, outputs
from batchgen.jobtable.submission import Candidate, Sender
from batchgen.jobtable.sync import LABELS, OnChanged
from batchgen.jobtable.transition import Increment, change_state, guarded_update, record_event
from batchgen.services.base import PastGeneration
from batchgen.services.outcomes import Adopted, Unknown

SHOWN = 5
"""Repeats that a message names one by one."""


@dataclass(frozen=True, slots=True)
class Adopter:
    """The run that takes generations over from the service's log."""

    sender: Sender
    handle_of: Callable[[str, str], Mapping[str, Any]]
    """The handle of a generation, by its id and the endpoint."""
    now: datetime
    deadline_at: datetime
    """Until when a generation may run."""


def with_files(repeats: Sequence[Repeat], folder: Path) -> list[Repeat]:
    """The repeats, with the files that lie at their outputs. It reads them to their ends, so no transaction is open."""
    place = OutputFolder(folder)
    return [
        replace(repeat, file=place.size_and_digest(repeat.job.output_path)) if repeat.generation else repeat
        for repeat in repeats
    ]


def decision_on(repeats: Sequence[Repeat], on_changed: OnChanged, redone: int) -> OnChanged:
    """What a person has said of repeats. A redo that made edited jobs again (`redone`) was said of those alone: nobody
    has been shown the repeats yet."""
    is_paid = any(repeat.owner or repeat.generation for repeat in repeats)
    return "refuse" if redone and on_changed == "redo" and is_paid else on_changed


def list_text(repeats: Sequence[Repeat]) -> str:
    """How many repeats there are, and the first of them, as a person reads it."""
    more = len(repeats) - SHOWN
    return (
        f"{plural(len(repeats), 'job')} paid for before, or with a video already:\n"
        + "\n".join(f"  {repeat}" for repeat in repeats[:SHOWN])
        + (f"\n  and {more} more" if more > 0 else "")
    )


def refusal(connection: Connection, service: str, repeats: Sequence[Repeat], redone: int = 0) -> str:
    """Why repeats are not sent, and what a person decides between. `redone`: see `decision_on`."""
    again = pricelist.cost_of(connection, service, [repeat.job for repeat in repeats])
    return (
        (f"redo is noted for {plural(redone, 'edited job')}. Not decided yet: " if redone else "")
        + list_text(repeats)
        + "\nNone of them has been sent. Run again with --changed keep (take over what was paid for)"
        f"\nor --changed redo (pay for these once more: {again})."
        " If another job table has these jobs, name it with --db."
    )


def settle(
    connection: Connection,
    repeats: Sequence[Repeat],
    folder: Path,
    adopter: Adopter,
    on_changed: OnChanged,
    redone: int = 0,
) -> None:
    """Do with the repeats what a person said (see `decision_on`). Raises `ManifestChanged` where nothing was said.

    A job that another run has sent since it was read stays as it is.
    """
    now = adopter.now
    if repeats and on_changed == "refuse":
        raise ManifestChanged(refusal(connection, adopter.sender.service, repeats, redone))
    for repeat in repeats:
        if row_of(connection, repeat.job).state != State.PENDING:
            continue
        if on_changed == "redo":
            job, past = repeat.job, repeat.generation
            # The service's clock may be ahead: an order is never older than what it was given about.
            at = max(now, past.accepted_at) if past else now
            connection.execute(update(jobs).where(jobs.c.id == job.id).values(repeat_ordered=job.fingerprint))
            record_event(connection, job, at, State.PENDING, State.PENDING, ORDERED_AGAIN)
        elif repeat.owner:
            take_over(connection, repeat.job, repeat.owner, folder, now, adopter.deadline_at)
        elif repeat.generation:
            adopt(connection, adopter, repeat.job, repeat.generation, repeat.file)
        else:
            reason = f"not sent: {repeat.job.output_path} was there already, and is kept"
            commands.cancel_row(connection, repeat.job, ErrorClass.PERSON, reason, now)


def adopt(
    connection: Connection, adopter: Adopter, job: Any, past: PastGeneration, file: tuple[int, str] | None
) -> None:
    """Give a pending job the generation of its request, as if the answer had been lost and found.

    Where its video lies at the job's output, the job is done.
    """
    candidate = Candidate(
        *(job.id, job.model, job.endpoint, job.request, job.clip_seconds, job.fingerprint),
        client_request_id=past.client_request_id,
    )
    now, deadline_at = adopter.now, adopter.deadline_at
    (sent,) = submission.intend(connection, job.batch_id, adopter.sender, now, deadline_at, [candidate])
    connection.execute(update(attempts).where(attempts.c.id == sent.attempt.id).values(intent_at=past.accepted_at))
    submission.unconfirmed(connection, sent, Unknown(ONLY_IN_LOG), now, now)
    (lost,) = load_jobs(connection, [job.id])
    handle = adopter.handle_of(past.generation_id, job.endpoint)
    finding = Adopted(past.generation_id, past.accepted_at, past.cost_usd, handle)
    if reconciliation.adopted(connection, lost, finding, now, deadline_at) and file:
        (adopted,) = load_jobs(connection, [job.id])
        deliver(connection, adopted, *file, now)


def deliver(connection: Connection, job: Job, size: int, sha256: str, now: datetime) -> None:
    """The video of a generation lies at the job's output, and the service does not have it any more."""
    path = job.output_path
    polling.end(connection, job, "on disk", now, None, ChargeSource.LOG)
    file = {"bytes": size, "sha256": sha256, "path": path, "delivered_at": now}
    connection.execute(insert(outputs).values(attempt_id=job.attempt.id, number=1, url="", **file))
    guarded_update(connection, batches, {"id": job.batch_id}, {"delivered_bytes": Increment(size)})
    change_state(connection, job, State.GENERATING, State.DOWNLOADING, now)
    change_state(connection, job, State.DOWNLOADING, State.DONE, now, detail=f"{path}: the file was there already")


def take_over(connection: Connection, job: Any, owner: Any, folder: Path, now: datetime, deadline_at: datetime) -> None:
    """Exchange the names of a pending job and of the job that was paid for, and cancel the pending one.

    Money, generation and file come under the name that the manifest has now. A cancelled generation is asked for again.
    Files below the folder of another manifest are fetched again. Raises `UsageError` where a run works on the paid job,
    or its batch was moved.
    """
    moves.refuse_moved(connection, owner.batch_id)
    current = row_of(connection, owner)
    if current.leased_by is not None or current.state != owner.state:
        raise UsageError(f"job {owner.key} of batch {owner.batch}: a run works on it now. Try again when it has ended.")
    reason = f"its request was paid for: {owner.key} of batch {owner.batch} goes on as {job.key}"
    record_event(connection, owner, now, owner.state, owner.state, reason)
    commands.cancel_row(connection, job, ErrorClass.GONE, reason, now)
    left_names = own_names(owner) | {"parent_batch": None, "parent_key": None}
    new_names = own_names(job) | parent_after(job, owner)
    for row, names in ((owner, {"key": f"~{owner.id}"}), (job, left_names), (owner, new_names)):
        connection.execute(update(jobs).where(jobs.c.id == row.id).values(**names))
    lineage.rename_parent(connection, owner.id, (owner.batch_id, owner.key), (job.batch_id, job.key))
    if owner.batch_id != job.batch_id:
        for row, left, entered in ((owner, owner.batch_id, job.batch_id), (job, job.batch_id, owner.batch_id)):
            ledger.move_totals(connection, row.id, left, entered)
    if owner.state == State.CANCELLED:
        commands.ask_again(connection, job.batch_id, [job.key], now, deadline_at)
    if owner.state != State.DONE:
        return
    numbers = [entry.file.number for entry in delivery.lost_files(connection, job.batch_id, folder, [job.key]).files]
    if numbers and Path(owner.manifest_path).parent != folder:
        commands.fetch_again(connection, job.batch_id, {job.key: numbers}, now)
    else:
        move_file(connection, owner, job.output_path, folder)


def row_of(connection: Connection, job: Any) -> Any:
    """State and lease of a job as they are now: it was read before this transaction."""
    return connection.execute(select(jobs.c.state, jobs.c.leased_by).where(jobs.c.id == job.id)).one()


def own_names(job: Any) -> dict[str, Any]:
    names = ("batch_id", "key", "output_path", *(column.name for column in LABELS))
    return {name: getattr(job, name) for name in names}


def parent_after(job: Any, owner: Any) -> dict[str, Any]:
    """The parent of a paid job under its new name: as the manifest says, unless that is nothing, or the job itself."""
    is_said = job.parent_key is not None and (job.parent_batch, job.parent_key) != (owner.batch, owner.key)
    return {"parent_batch": job.parent_batch, "parent_key": job.parent_key} if is_said else {}


def move_file(connection: Connection, owner: Any, new: str, folder: Path) -> None:
    """Move the first file of a delivered job to another output. It stays where it is if something lies there."""
    first = delivery.first_file(owner.attempt_id)
    old = connection.execute(select(outputs.c.path).where(*first)).scalar_one()
    place = OutputFolder(folder)
    if old != new and not is_url(new) and place.exists(old) and not place.exists(new):
        place.rename(old, new)
        connection.execute(update(outputs).where(*first).values(path=new))
    else:
        connection.execute(update(jobs).where(jobs.c.id == owner.id).values(output_path=old))
