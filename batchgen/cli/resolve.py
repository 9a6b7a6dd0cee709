"""The command `batchgen resolve`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import click

from batchgen import clock
from batchgen.catalogue.wording import plural
from batchgen.cli import options
from batchgen.cli.batches import open_batch
from batchgen.cli.steering import goes_on_line, notify_runs, show_jobs
from batchgen.errors import UsageError
from batchgen.jobs import Job, State
from batchgen.jobtable import ledger, reconciliation
from batchgen.jobtable.database import Database
from batchgen.jobtable.kinds import SettingName
from batchgen.jobtable.reconciliation import BY_PERSON
from batchgen.limits.steering import deadline_after
from batchgen.report import hints
from batchgen.report.command_events import Held, HeldJob
from batchgen.report.formats import duration, shortened
from batchgen.report.terminal import show
from batchgen.services.bounds import is_identity
from batchgen.services.outcomes import Adopted
from batchgen.services.registry import plugin


@options.jobs_of_batch
@click.option(
    "--found",
    "generation_id",
    metavar="GENERATION-ID",
    help="It was accepted: this is its generation id (for one job). Again with another id: the first was wrong.",
)
@click.option("--resubmit", is_flag=True, help="It was not accepted: send it again. If it was, it is paid for twice.")
@click.option("--give-up", is_flag=True, help="Mark it as failed; do not send it again.")
def command(
    manifest: Path,
    ids: tuple[str, ...],
    db: str | None,
    simulate: bool,
    as_json: bool,
    generation_id: str | None,
    resubmit: bool,
    give_up: bool,
) -> None:
    """Without an option: show them, with what to search for on the service's site. Without IDS: all of them."""
    if sum(map(bool, (generation_id, resubmit, give_up))) > 1:
        raise UsageError("--found, --resubmit and --give-up exclude one another")
    if generation_id is not None and not is_identity(generation_id):
        raise UsageError(f"--found: {generation_id[:40]!r} is no id of a generation: copy it from the service's site")
    now, settles = clock.utcnow(), bool(generation_id or resubmit or give_up)
    with open_batch(db, manifest, simulate, steers=True) as (database, batch):
        # Whose generation a person has named before: another one may be meant.
        adopted = database.read_now(reconciliation.named_by_person, batch.id, ids) if generation_id else []
        jobs = adopted or held_jobs(database, batch.id, ids)
        if generation_id and len(jobs) > 1:
            raise UsageError(f"--found settles one job: name it ({shortened([job.key for job in jobs])})")
        settled = [job.key for job in jobs if settles and settle(database, job, now, generation_id, resubmit=resubmit)]
        runs = notify_runs(database, batch.id, SettingName.RESOLVED, len(settled))
    if jobs and not settles:
        show_held(jobs, now, as_json=as_json)
        return
    hint, line = "the next run goes on with them", f"{plural(len(settled), 'job')} settled: {shortened(settled)}"
    if not settled:
        hint = "no job is held for a person"
        line = "nothing was settled: a run, or another command, has settled it meanwhile" if jobs else hint
    reconcile = options.quoted_command("reconcile")
    reserved = f"What the first request may cost stays reserved, until {reconcile} settles it."
    notes = [*([reserved] if resubmit else []), goes_on_line(runs)]
    show_jobs({"settled": settled}, line, hint=hint, next_command="run", notes=notes, as_json=as_json)


def settle(database: Database, job: Job, now: datetime, generation_id: str | None, *, resubmit: bool) -> bool:
    """Do with one job what a person said. False where a run, or another command, has settled it meanwhile."""
    if generation_id:
        return adopt(database, job, generation_id, now)
    if resubmit:
        return database.write_now(reconciliation.resubmitted_by_person, job, now)
    return database.write_now(reconciliation.abandoned, job, "given up by a person", now)


def adopt(database: Database, job: Job, generation_id: str, now: datetime) -> bool:
    """Let a job continue with a generation that a person names, for the first time or in place of a wrong one.

    Raises `UsageError` where another request has that generation.
    """
    handle = plugin(job.service).handle_of(generation_id, job.endpoint)
    finding = Adopted(generation_id, job.attempt.intent_at, handle=handle)
    deadline_at = database.read_now(deadline_after, job.batch_id, now)
    if database.read_now(ledger.is_owned_elsewhere, job.attempt.id, generation_id):
        raise UsageError(f"{generation_id} belongs to another request. Nothing has been settled.")
    if job.state is State.UNCONFIRMED:
        return database.write_now(reconciliation.adopted, job, finding, now, deadline_at, BY_PERSON)
    return database.write_now(reconciliation.corrected, job, finding, now, deadline_at)


def held_jobs(database: Database, batch_id: int, ids: tuple[str, ...]) -> list[Job]:
    """The jobs that are held for a person: of these, or of all. Raises `UsageError` for one that is not held."""
    held = database.read_now(reconciliation.held_jobs, batch_id)
    if others := set(ids) - {job.key for job in held}:
        raise UsageError(f"not held for a person: {', '.join(sorted(others))}. Nothing has been changed.")
    return [job for job in held if not ids or job.key in ids]


def show_held(jobs: Sequence[Job], now: datetime, *, as_json: bool) -> None:
    """Print what a person needs to find lost requests at the service."""
    held, lines = [], []
    for job in jobs:
        at, request_id = job.attempt.intent_at, job.attempt.client_request_id
        held.append(HeldJob(id=job.key, model=job.model, sent_at=at, client_request_id=request_id, error=job.error))
        lines += [
            f"{job.key}  {job.model}",
            f"  sent {at.astimezone():%Y-%m-%d %H:%M:%S %Z}, {duration(now - at)} ago",
            f"  X-Client-Request-Id: {request_id}",
            f"  {job.error}",
        ]
    hint = (
        "search for them on the service's site, by time and model; if one is there: --found GENERATION-ID; if not:"
        " --resubmit or --give-up"
    )
    event = Held(event="held", jobs=held, **hints.advice(hint, options.command_to_type("resolve")))
    show(event, *lines, notes=[hints.next_line(hint)], as_json=as_json)
