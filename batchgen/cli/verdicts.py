"""The command `batchgen verdicts`, with its own commands."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import click

from batchgen import clock
from batchgen.catalogue.wording import plural
from batchgen.cli import options
from batchgen.cli.batches import open_batch
from batchgen.errors import ExitCode, UsageError
from batchgen.files.verdicts_file import FileVerdict, VerdictsFile, read_verdicts
from batchgen.jobtable import verdicts
from batchgen.jobtable.batches import StoredBatch
from batchgen.jobtable.database import Database
from batchgen.jobtable.verdicts import Imported
from batchgen.report.formats import counts
from batchgen.report.terminal import show

AT_ONCE = 500
"""Verdicts in one transaction: a run that is at work waits no longer than some milliseconds."""
SHOWN_PROBLEMS = 20
NAME_CHARS = 200  # of a batch's name from a file


@click.group(help="`batchgen review` writes verdicts there itself; a page made by `batchgen report` saves a file.")
def command() -> None:
    pass


@command.command("import")
@options.manifest
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@options.batch_table
def import_(manifest: Path, files: tuple[Path, ...], db: str | None, simulate: bool, as_json: bool) -> None:
    """Bring the verdicts of FILES, which the review page has saved, into the job table.

    Of two verdicts on one clip the newer one counts, whichever file it comes from, and so do the newer stars; the same
    file may be imported again.
    A verdict goes to the clip that was judged, whatever the id of its job is by now. One on a clip that no job has any
    more, or one that cannot be read, is named and not imported: exit code 2. A run may be at work.
    """
    now = clock.utcnow()
    read = [read_verdicts(path, now) for path in files]
    with open_batch(db, manifest, simulate) as (database, batch):
        refuse_other_batches(database, batch, dict(zip(files, read, strict=True)), manifest)
        imported = store(database, batch.id, newest_of(read))
        totals = database.read_now(verdicts.left_out, batch.id)
    problems = [problem for file in read for problem in file.problems]
    problems += [f"{verdict.source}: {verdict.id}: {reason}" for verdict, reason in imported.refused]
    numbers = {"imported": imported.new, "unchanged": imported.old}
    event = {"event": "imported", "batch": batch.name, **numbers, "problems": problems, "jobs": totals}
    unchanged = f", {imported.old} not newer than the table's" if imported.old else ""
    line = f"{batch.name}: {plural(imported.new, 'verdict')} imported{unchanged}"
    notes = problems[:SHOWN_PROBLEMS]
    if len(problems) > SHOWN_PROBLEMS:
        notes.append(f"… and {len(problems) - SHOWN_PROBLEMS} more; --json has them all")
    show(event, line, f"  {counts(totals.items())}", notes=notes, as_json=as_json)
    if problems:
        sys.exit(ExitCode.USAGE)


def refuse_other_batches(
    database: Database, batch: StoredBatch, files: Mapping[Path, VerdictsFile], manifest: Path
) -> None:
    """Raise `UsageError` for a file about another batch, unless this one has taken over clips that were judged."""
    wrong = [
        f"{path}: it has verdicts on the batch {file.batch[:NAME_CHARS]!r}, but {manifest} is {batch.name!r}"
        for path, file in files.items()
        if file.batch != batch.name and not database.read_now(verdicts.has_any, batch.id, file.verdicts)
    ]
    if wrong:
        advice = "Nothing has been imported. Name the manifest of that batch, with --simulate for a simulated one."
        raise UsageError("\n".join([*wrong, advice]))


def newest_of(files: Sequence[VerdictsFile]) -> list[FileVerdict]:
    """The newest verdict on each clip, whichever file it comes from, with the newest stars. A job may have had several
    clips."""
    newest: dict[tuple[str, str], FileVerdict] = {}
    for verdict in sorted((verdict for file in files for verdict in file.verdicts), key=lambda verdict: verdict.at):
        clip = (verdict.id, verdict.clip)
        older = newest.get(clip, verdict)
        newest[clip] = replace(verdict, changes={**older.changes, **verdict.changes})
    return list(newest.values())


def store(database: Database, batch_id: int, newest: Sequence[FileVerdict]) -> Imported:
    """Record verdicts, some at a time, so that a run gets at the table between them."""
    total = Imported()
    for first in range(0, len(newest), AT_ONCE):
        part = database.write_now(verdicts.import_verdicts, batch_id, newest[first : first + AT_ONCE])
        total.new += part.new
        total.old += part.old
        total.refused += part.refused
    return total
