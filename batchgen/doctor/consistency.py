"""A job table against its files, and against itself: what `batchgen db check` says."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from sqlalchemy import Connection

from batchgen.catalogue.wording import plural
from batchgen.doctor.findings import Finding, ok, problem
from batchgen.doctor.machine import stray_files
from batchgen.doctor.table import TableExam, moved_finding
from batchgen.errors import UsageError
from batchgen.files.output_paths import is_url
from batchgen.jobtable.batches import StoredBatch
from batchgen.jobtable.database import errors_for_people
from batchgen.jobtable.delivery import lost_files
from batchgen.jobtable.inspection import inspecting, output_paths
from batchgen.jobtable.invariants import violations
from batchgen.jobtable.moves import departure_of

SHOWN = 20  # files without a row that are named


def examine(location: str | Path, manifest: Path | None, db: str | None, *, verify: bool) -> Iterator[Finding]:
    """Compare every batch of a job table, or those of a manifest, with the files and with itself.

    Raises `UsageError` where there is no job table, `StorageError` where it cannot be read.
    """
    exam = TableExam(location, manifest, db)
    exam.refuse_unknown_manifest()
    if exam.path and (finding := exam.examine_place(exam.path)):
        if finding.is_ok:
            raise UsageError(f"{exam.path}: there is no job table")
        yield finding
        return
    yield from exam.examine_table()
    if not exam.is_readable:
        return
    if not (batches := exam.own_batches()):
        yield ok("batch", "there is none of this manifest in the table" if manifest else "there is none in the table")
    with errors_for_people(exam.url), inspecting(exam.url) as connection:
        # Other batches may have the same folders.
        every = exam.condition.batches
        folders = {batch.id: folder_of(batch, manifest if batch in batches else None) for batch in every}
        recorded = {f"{folders[id_]}/{path}" for id_ in folders for path in output_paths(connection, id_)}
        for batch in batches:
            yield from examine_batch(connection, batch, exam, recorded, verify=verify)


def folder_of(batch: StoredBatch, manifest: Path | None) -> Path:
    """The folder below which the files of a batch lie, by one name: manifests may reach it through links."""
    return (manifest or Path(batch.manifest_path)).absolute().parent.resolve()


def examine_batch(
    connection: Connection, batch: StoredBatch, exam: TableExam, recorded: Collection[str], *, verify: bool
) -> Iterator[Finding]:
    """One batch: its rows, the files that its rows have, and the files that no row has."""
    if move := departure_of(connection, batch.id):
        yield moved_finding(batch.name, move)
        return
    folder = folder_of(batch, exam.manifest)
    problems = [problem("rows", f"{batch.name}: {violation}") for violation in violations(connection, batch.id)]
    lost = lost_files(connection, batch.id, folder, verify=verify)
    is_local = any(not is_url(path) for path in output_paths(connection, batch.id))
    if is_local and lost.checked and not folder.is_dir():
        number = plural(lost.checked, "file")
        problems.append(problem("files", f"{batch.name}: its folder {folder} is not there: {number} not compared"))
    elif lost.files or lost.unreadable:
        problems.append(exam.lost_finding(batch, lost))
    strays = stray_files(folder, output_paths(connection, batch.id), recorded)
    if strays:
        subject = "1 file has" if len(strays) == 1 else f"{len(strays):,} files have"
        more = f"; and {len(strays) - SHOWN:,} more" if len(strays) > SHOWN else ""
        message = f"{batch.name}: {subject} no row in the table: {'; '.join(strays[:SHOWN])}{more}"
        problems.append(problem("files", message))
    yield from problems
    if not problems:
        how = "with the content that was delivered" if verify else "with its size"
        yield ok("batch", f"{batch.name}: its rows agree, and each of {plural(lost.checked, 'file')} is there {how}")
