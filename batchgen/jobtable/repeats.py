"""Repeats: pending jobs whose exact request was paid for before, under whatever name, or whose video is there already.

The table knows a request by the fingerprint of an attempt, the service's log by the digits of it in a client request
id, and the disk by the job's own output. A person says what becomes of a repeat: it is kept, or paid for again.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, bindparam, func, select

from batchgen.catalogue.amounts import amount_text
from batchgen.files import object_store
from batchgen.files.output_paths import is_url
from batchgen.files.outputs import name_of
from batchgen.jobs import Outcome, State
from batchgen.jobtable.fingerprint import DIGITS, digits_of
from batchgen.jobtable.joins import ATTEMPTS, IN_BATCH
from batchgen.jobtable.rows import may_be_charged, rows_among
from batchgen.jobtable.schema import attempts, batches, events, jobs, outputs
from batchgen.jobtable.selection import Selected
from batchgen.jobtable.sync import LABELS, SyncResult
from batchgen.services.base import PastGeneration

HISTORY = timedelta(days=30)
"""How far back the service's log is compared with jobs that are new in a table. Services keep about three months."""
LOG_CLOCK_SKEW = timedelta(hours=1)
"""How far the clocks of this machine and of the service may differ."""
ONLY_IN_LOG = "only the service's log has this request"
"""The remark of an attempt that was taken over from the log."""
ORDERED_AGAIN = "paid for before, and ordered again"
"""The remark of an event: a person wants to pay once more for the request of a pending job."""


@dataclass(frozen=True, slots=True)
class Repeat:
    """A pending job that was paid for before: by another job, by a generation of the service's log, or by a file."""

    job: Any
    owner: Any | None = None
    generation: PastGeneration | None = None
    file: tuple[int, str] | None = None
    """Size and SHA-256 of the file at the job's output, where it is taken for the video of `generation`."""

    def __str__(self) -> str:
        if owner := self.owner:
            return f"{self.job.key}: paid for as job {owner.key} of batch {owner.batch} ({owner.state})"
        if past := self.generation:
            cost = "" if past.cost_usd is None else f", {amount_text(past.cost_usd)} USD"
            return (
                f"{self.job.key}: the service's log has it: generation {past.generation_id}"
                f" of {past.accepted_at.astimezone():%Y-%m-%d %H:%M}{cost}"
            )
        return f"{self.job.key}: {self.job.output_path} exists already, and no job of this table made it"


@dataclass(frozen=True, slots=True)
class RepeatSearch:
    """Where repeats of a batch are looked for."""

    batch_id: int
    service: str
    folder: Path
    """The manifest's folder, below which the outputs lie."""
    orphans: Collection[int]
    """The row ids of jobs of the batch whose request the manifest does not ask for under their name any more."""
    past: Sequence[PastGeneration] = ()
    """What the service's log has."""
    selected: Selected | None = None
    """The jobs that may be sent; None for all."""


@dataclass(frozen=True, slots=True)
class RepeatComparison:
    """The pending jobs of a batch beside what was paid for before."""

    repeats: list[Repeat]
    """Those that may be sent, in the manifest's order."""
    left: int
    """How many more repeats there are among the jobs that this run does not send: nobody is asked about them now."""
    beside: list[str]
    """The keys of jobs that are no repeats, but find the clip of another job at their output: theirs goes beside it."""
    newest_at: datetime | None
    """When the service accepted the newest of the requests that only its log has, and that a pending job makes too."""


def compared_since(connection: Connection, synced: SyncResult, now: datetime) -> datetime:
    """From when on the service's log may have what the table lacks of the pending jobs.

    Jobs that were compared lack at most what came later, and in an older copy of the table what came after its newest
    attempt. Jobs of a run that ended before its comparison were never compared.
    """
    compared = connection.execute(select(batches.c.compared_at).where(batches.c.id == synced.batch_id)).scalar_one()
    newest = connection.execute(NEWEST, {"in_batch": synced.batch_id}).scalar() or compared
    first = now - HISTORY
    is_new = compared is None or synced.has_changes
    is_clock_set_back = newest is not None and newest > now
    return first if is_new or is_clock_set_back else max(first, newest - LOG_CLOCK_SKEW)


def newest_from_log(connection: Connection, batch_id: int) -> datetime | None:
    """When the newest generation of the batch was bought that only the service's log knew."""
    return connection.execute(NEWEST.where(attempts.c.error == ONLY_IN_LOG), {"in_batch": batch_id}).scalar()


def compare(connection: Connection, search: RepeatSearch) -> RepeatComparison:
    """Look for the repeats among the pending jobs.

    A job that only its own earlier attempts paid for is no repeat. One that a person ordered again is none either,
    unless the log shows that it was bought since: then the table is an older copy.
    """
    pending = connection.execute(UNSETTLED_NAMES, {"in_batch": search.batch_id}).all()
    ordered_again = connection.execute(ORDERED, {"in_batch": search.batch_id}).all()
    owners = paid_elsewhere(connection, search)
    unclaimed_by_digits = unclaimed_generations(connection, search)
    digits = {job.fingerprint[:DIGITS] for job in (*pending, *ordered_again)}
    lost = [past for request in digits & unclaimed_by_digits.keys() for past in unclaimed_by_digits[request]]
    newest_at = max((past.accepted_at for past in lost if past.is_certain), default=None)
    repeats = list(paid_for(pending, ordered_again, owners, unclaimed_by_digits))
    paid = {repeat.job.id for repeat in repeats}
    others = [job for job in pending if job.id not in paid]
    present = with_output(search.folder, others)
    made = made_outputs(connection, search.folder) if present else set()
    repeats += [Repeat(job) for job in present if job.output_path not in made]
    repeats.sort(key=lambda repeat: int(repeat.job.id))
    beside = [job.key for job in present if job.output_path in made]
    may_be_sent = None if search.selected is None else set(search.selected.ids)
    chosen = [repeat for repeat in repeats if may_be_sent is None or repeat.job.id in may_be_sent]
    params = {"in_batch": search.batch_id}  # all that keeping a pending job needs of its row
    rows = (connection.execute(PENDING.where(jobs.c.id == repeat.job.id), params).one() for repeat in chosen)
    whole = [replace(repeat, job=row) for repeat, row in zip(chosen, rows, strict=True)]
    return RepeatComparison(whole, len(repeats) - len(chosen), beside, newest_at)


def paid_for(
    pending: Sequence[Any],
    ordered_again: Sequence[Any],
    owners: Mapping[str, list[Any]],
    unclaimed_by_digits: Mapping[str, list[PastGeneration]],
) -> Iterator[Repeat]:
    """The repeats by table and log. Each takes its owner or generation out of the lists."""
    for job in pending:
        if candidates := owners.get(job.fingerprint):
            yield Repeat(job, owner=candidates.pop(0))
        elif generations := unclaimed_by_digits.get(job.fingerprint[:DIGITS]):
            yield Repeat(job, generation=generations.pop(0))
    for ordered in ordered_again:
        generations = unclaimed_by_digits.get(ordered.fingerprint[:DIGITS], [])
        if bought := [generation for generation in generations if generation.accepted_at > ordered.ordered_at]:
            yield Repeat(ordered, generation=bought[0])
            generations.remove(bought[0])


def paid_meanwhile(connection: Connection, search: RepeatSearch, ids: Collection[int]) -> list[Repeat]:
    """The repeats among a few pending jobs that are about to be sent: they were paid for since the run began."""
    owners = paid_elsewhere(connection, search, ids)
    if not owners:
        return []
    unsettled = PENDING.where(_is_unsettled, jobs.c.id.in_(ids))
    pending = connection.execute(unsettled, {"in_batch": search.batch_id})
    return [Repeat(job, owner=owners[job.fingerprint][0]) for job in pending if job.fingerprint in owners]


def paid_elsewhere(
    connection: Connection, search: RepeatSearch, among: Collection[int] | None = None
) -> dict[str, list[Any]]:
    """The jobs that own a paid attempt with the request of a pending one (of those `among` them), by fingerprint.

    Jobs that stand in the manifest beside it are none of them: a manifest may ask for one request many times.
    """
    params: dict[str, Any] = {"in_batch": search.batch_id, "at_service": search.service}
    statement = OWNERS
    if among is not None:
        statement, params["ids"] = OWNERS_AMONG, list(among)
    rows = {row.id: row for row in connection.execute(statement, params)}  # one for each pending job with its request
    owners: dict[str, list[Any]] = defaultdict(list)
    for row in sorted(rows.values(), key=lambda row: int(row.id)):
        is_beside = row.batch_id == search.batch_id and row.id not in search.orphans
        # A video that cost nothing, or that was refunded, is one.
        has_ended_for_nothing = row.state.is_retriable and not may_be_charged(row)
        if not is_beside and not has_ended_for_nothing:
            owners[row.fingerprint].append(row)
    return owners


def unclaimed_generations(connection: Connection, search: RepeatSearch) -> dict[str, list[PastGeneration]]:
    """The generations of the service's log that no attempt of this table has, by the digits of their requests."""
    requests, generations_ = attempts.c.client_request_id, attempts.c.generation_id
    ids = [past.client_request_id for past in search.past]
    claimed = {row[0] for row in rows_among(connection, select(requests), requests, ids)}
    of_service = select(generations_).where(attempts.c.service == search.service)
    ids = [past.generation_id for past in search.past]
    claimed |= {row[0] for row in rows_among(connection, of_service, generations_, ids)}
    generations: dict[str, dict[str, PastGeneration]] = defaultdict(dict)
    # The newest first: where a person paid for a request once more, the older generation was not what was wanted.
    for past in sorted(search.past, key=lambda past: (past.is_certain, past.accepted_at), reverse=True):
        digits = digits_of(past.client_request_id)
        if digits and not claimed & {past.client_request_id, past.generation_id}:
            generations[digits][past.generation_id] = past
    return {digits: list(by_id.values()) for digits, by_id in generations.items()}


def made_outputs(connection: Connection, folder: Path) -> set[str]:
    """The paths below a folder, and the URLs, at which the files of jobs lie, of whatever batch."""
    made = select(outputs.c.path, batches.c.manifest_path).select_from(ATTEMPTS.join(batches).join(outputs))
    rows = connection.execute(made.where(outputs.c.path.is_not(None)))
    return {row.path for row in rows if is_url(row.path) or Path(row.manifest_path).parent == folder}


def with_output(folder: Path, pending: Sequence[Any]) -> list[Any]:
    """The pending jobs at whose output a file lies."""

    @cache
    def names_in(directory: str) -> set[str]:
        """The names in a folder, without regard to case: whether a file system has any is known only by asking it."""
        with suppress(OSError):
            return {name.casefold() for name in os.listdir(directory)}  # noqa: PTH208  names are all that is needed
        return set()

    def exists(output: str) -> bool:
        if is_url(output):
            return name_of(output) in objects_in(output.rpartition("/")[0])
        directory, _, name = f"{folder}/{output}".rpartition("/")
        return name.casefold() in names_in(directory) and os.path.lexists(f"{directory}/{name}")

    objects_in = cache(object_store.names_in)
    return [job for job in pending if exists(job.output_path)]


_names = (jobs.c.id, jobs.c.batch_id, jobs.c.key, jobs.c.fingerprint, jobs.c.output_path)
_in_batch = (IN_BATCH, jobs.c.state == State.PENDING)
_is_unsettled = jobs.c.repeat_ordered.is_(None) | (jobs.c.repeat_ordered != jobs.c.fingerprint)
UNSETTLED_NAMES = select(*_names).where(*_in_batch, _is_unsettled)
PENDING = select(
    *(*_names, jobs.c.state, *LABELS, jobs.c.parent_batch, jobs.c.parent_key),
    *(jobs.c.model, jobs.c.endpoint, jobs.c.request, jobs.c.clip_seconds),
).where(*_in_batch)
ORDERED = (
    select(*_names, func.max(events.c.at).label("ordered_at"))
    .join(events)
    .where(*_in_batch, jobs.c.repeat_ordered == jobs.c.fingerprint, events.c.detail == ORDERED_AGAIN)
    .group_by(*_names)
)

_pending = jobs.alias("pending")
OWNERS = (
    select(
        *(jobs.c.id, jobs.c.batch_id, jobs.c.key, jobs.c.state, jobs.c.output_path, *LABELS),
        *(jobs.c.attempt_id, jobs.c.error_class, attempts.c.fingerprint, attempts.c.outcome, attempts.c.cost_usd),
        *(batches.c.name.label("batch"), batches.c.manifest_path),
    )
    .select_from(_pending)
    .join(attempts, attempts.c.fingerprint == _pending.c.fingerprint)
    .join(jobs, (jobs.c.id == attempts.c.job_id) & (jobs.c.attempt_id == attempts.c.id))
    .join(batches, batches.c.id == jobs.c.batch_id)
    .where(
        _pending.c.batch_id == bindparam("in_batch"),
        _pending.c.state == State.PENDING,
        attempts.c.service == bindparam("at_service"),
        attempts.c.outcome.in_([outcome for outcome in Outcome if outcome.may_be_paid]),
        jobs.c.id != _pending.c.id,
    )
)
OWNERS_AMONG = OWNERS.where(_pending.c.id.in_(bindparam("ids", expanding=True)))
NEWEST = select(func.max(attempts.c.intent_at)).select_from(ATTEMPTS).where(IN_BATCH)
