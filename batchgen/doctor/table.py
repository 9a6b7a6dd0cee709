"""The job table and its batches: whether it is whole, of this version, ours, and what dead runs have left."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

from batchgen import clock
from batchgen.advice.command_line import command_line, with_ids
from batchgen.catalogue.wording import plural
from batchgen.doctor.findings import Finding, move_aside, ok, problem, shell
from batchgen.doctor.machine import examine_output_folders, examine_parts, examine_rights, is_readable_by_others
from batchgen.errors import ExitCode, StorageError, UsageError
from batchgen.files import liveness
from batchgen.files.safe_open import DATABASE_SUFFIXES, UnsafePath
from batchgen.files.spelling import no_such_manifest
from batchgen.jobs import JobSpec
from batchgen.jobtable import pricelist, submission
from batchgen.jobtable.batches import StoredBatch, made_by, table_exists
from batchgen.jobtable.database import DISK_AT_FAULT, errors_for_people
from batchgen.jobtable.delivery import LostFiles
from batchgen.jobtable.engine import database_url, path_of, shown
from batchgen.jobtable.inspection import BatchCondition, TableCondition, inspect_batch, inspect_table, inspecting
from batchgen.jobtable.migrations import HEAD
from batchgen.jobtable.moves import Departure, departure_of
from batchgen.jobtable.place import is_missing
from batchgen.jobtable.pricelist import PriceList
from batchgen.jobtable.submission import Candidate
from batchgen.services.registry import SIMULATOR

SHOWN = 3  # lost files, or missing rights, that are named
REINDEX = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('REINDEX')"
TABLE_SUFFIXES = ("", ".db", ".sqlite", ".sqlite3")
"""How the file of a job table may be called. A file with any other ending was named by mistake, and is not opened."""


class TableExam:
    """The examination of one job table, of one manifest's batches or of all. Raises `UsageError` for no location."""

    def __init__(self, location: str | Path, manifest: Path | None, db: str | None) -> None:
        """`db` is the job table as it was typed, for the commands to type."""
        self.manifest, self.db = manifest, db
        self.url = database_url(location)
        self.path = path_of(self.url)
        self.exists = table_exists(location) and (self.path is None or self.path.is_file())  # a pipe has no end

    @cached_property
    def condition(self) -> TableCondition:
        """The table as it was read, once."""
        return inspect_table(self.url)

    @property
    def services(self) -> set[str]:
        """The services of its batches, as far as it can be read."""
        return {batch.service for batch in self.condition.batches} if self.exists else set()

    def examine(self, account: str | None) -> Iterator[Finding]:
        """The table first; its batches only where it can be read. `account` is the label of the key in use; None where
        it is not known."""
        if self.path and (first := self.examine_place(self.path)):
            yield first
            return
        yield from self.examine_table()
        if self.path and not self.condition.error and is_readable_by_others(self.path):
            message = f"{self.path}: other users of this machine may read the job table"
            yield problem("table", message, shell("chmod", "600", self.path))
        if self.is_readable:
            yield from self.examine_batches(account)

    def examine_table(self) -> Iterator[Finding]:
        """What is wrong with the table itself; that it is whole, where nothing is."""
        findings = list(self.examine_condition())
        yield from findings or [ok("table", f"{shown(self.url)}: whole, version {self.condition.version}")]

    @property
    def is_readable(self) -> bool:
        """Whether its batches can be read."""
        return self.condition.is_current and not self.condition.faults

    def refuse_unknown_manifest(self) -> None:
        """Raise `UsageError` for a manifest that is not there, and of which the table knows nothing."""
        if self.manifest and not self.manifest.exists() and not (self.services and self.own_batches()):
            raise UsageError(no_such_manifest(self.manifest))

    def own_batches(self) -> list[StoredBatch]:
        """The batches of the manifest, or all of them."""
        batches = list(self.condition.batches)
        return made_by(batches, self.manifest, self.path) if self.manifest else batches

    def examine_batches(self, account: str | None) -> Iterator[Finding]:
        """Raises `StorageError` where the table cannot be read any more."""
        if not (batches := self.own_batches()):
            yield ok("batch", "none of this manifest in the table yet; a run makes it")
        for batch in batches:
            folder, now = self.manifest_of(batch).absolute().parent, clock.utcnow()
            yield from self.examine_batch(batch, inspect_batch(self.url, batch.id, folder, now, account))

    def next_jobs(self, service: str, specs: Sequence[JobSpec]) -> tuple[PriceList, Sequence[Candidate | JobSpec]]:
        """The prices that the table has, and the job that each batch sends next; `specs` are those of the manifest."""
        if not (self.exists and self.is_readable and (batches := self.own_batches())):
            return PriceList(), sorted(specs, key=lambda spec: -spec.priority)[:1]
        with errors_for_people(self.url), inspecting(self.url) as connection:
            here = [batch for batch in batches if batch.service == service and not departure_of(connection, batch.id)]
            jobs = [job for batch in here for job in submission.ready(connection, batch.id, 1)]
            return pricelist.load(connection, service), jobs

    def manifest_of(self, batch: StoredBatch) -> Path:
        return self.manifest or Path(batch.manifest_path)

    def command_on(self, batch: StoredBatch, name: str) -> str:
        return command_line(name, self.manifest_of(batch), simulate=batch.service == SIMULATOR, db=self.db)

    def examine_place(self, path: Path) -> Finding | None:
        """What is to be said where there is no table; None where there is one."""
        if not path.parent.is_dir():
            message = f"{path}: its folder does not exist"
            return problem("table", message, shell("mkdir", "-p", path.parent), ExitCode.STORAGE)
        if path.is_dir():
            return problem("table", f"{path}: this is a folder, not a job table", "", ExitCode.STORAGE)
        try:
            return ok("table", f"{path}: there is none yet; a run makes it") if is_missing(path) else None
        except UnsafePath as error:
            return problem("table", str(error), "", ExitCode.STORAGE)
        except StorageError as error:
            traces = [path.with_name(liveness.lock_name(path, run)) for run in liveness.recorded_runs(path)]
            journal = path.with_name(f"{path.name}-wal")
            traces += [journal] if journal.exists() else []
            return problem("table", str(error), self.begin_again(traces), ExitCode.STORAGE)

    def begin_again(self, paths: list[Path]) -> str:
        """The command that goes on with a new table. The service's log says what was paid for, and `keep` takes it."""
        run = command_line("run --changed keep", self.manifest or "MANIFEST", db=self.db)
        return f"{move_aside(paths)} && {run}"

    def fault(self, message: str, mend: str = "", exit_code: ExitCode = ExitCode.STORAGE) -> Finding:
        return problem("table", f"{shown(self.url)}: {message}", mend, exit_code)

    def examine_condition(self) -> Iterator[Finding]:
        condition = self.condition
        if condition.error:
            yield self.unreadable(condition.error)
        elif condition.faults and not condition.is_only_indexes:
            yield self.damaged("; ".join(condition.faults))
        elif condition.faults:
            reindex = shell(sys.executable, "-c", REINDEX, self.path or "")
            yield self.fault(f"its indexes are damaged, its rows are whole ({condition.faults[0]})", reindex)
        else:
            yield from self.examine_version()
        if condition.is_standby:
            advice = "name the server that is no standby, or ask for the right to write"
            yield self.fault(f"it may only be read here: {advice}")
        elif rights := condition.missing_rights:
            more = f" and {len(rights) - SHOWN} more" if len(rights) > SHOWN else ""
            some = f"{', '.join(rights[:SHOWN])}{more}"
            message = f"this role may not write what a run writes ({some}). The owner of the tables types: "
            yield self.fault(message + condition.grants)
        if condition.orphans:
            refer = "refers" if condition.orphans == 1 else "refer"
            rows = plural(condition.orphans, "row")
            yield self.fault(f"{rows} {refer} to rows that do not exist: put a copy of it back")

    def unreadable(self, error: str) -> Finding:
        """Why the database could not read the table: it is not ours, no table, or damaged."""
        if not (path := self.path):
            return self.fault(f"it cannot be used: {error}")
        # SQLite needs the folder of a table, too.
        if not (os.access(path, os.R_OK) and os.access(path.parent, os.R_OK | os.X_OK)):
            return self.fault(f"it may not be read ({error}): you have no right to the file or its folder")
        if self.condition.is_disk_at_fault:
            return self.fault(f"it cannot be read: {DISK_AT_FAULT} ({error})")
        if path.suffix not in TABLE_SUFFIXES:
            return self.fault(f"this is no job table ({error}); name another one with --db", "", ExitCode.USAGE)
        return self.damaged(error)

    def damaged(self, reason: str) -> Finding:
        path = self.path
        files = [file for suffix in DATABASE_SUFFIXES if path and (file := Path(f"{path}{suffix}")).exists()]
        message = (
            f"it is damaged ({reason}). Put a copy of it back, if you have one. Without one, a new table takes over"
            " what the service's log has, but no verdicts"
        )
        return self.fault(message, self.begin_again(files) if files else "")

    def examine_version(self) -> Iterator[Finding]:
        version = self.condition.version
        if self.condition.is_empty:
            yield ok("table", f"{shown(self.url)}: there is none yet; a run makes it")
        elif version is None:
            yield self.fault("this is no job table; name another one with --db", "", ExitCode.USAGE)
        elif version > HEAD:
            upgrade = shell(sys.executable, "-m", "pip", "install", "--upgrade", "batchgen")
            yield self.fault(f"it is of version {version}, and this batchgen knows {HEAD}", upgrade, ExitCode.USAGE)
        elif version != HEAD:
            message = f"it is of version {version}; any command brings it to {HEAD}"
            yield self.fault(message, command_line("status", self.manifest, db=self.db), ExitCode.INCOMPLETE)

    def examine_batch(self, batch: StoredBatch, condition: BatchCondition) -> Iterator[Finding]:
        """What keeps a batch from its end."""
        name, path = batch.name, self.path
        if condition.move:
            yield moved_finding(name, condition.move)
            return
        problems: list[Finding] = []
        is_dead = liveness.are_dead(path) if path else {}
        here = [holder for holder, owner in condition.leases.items() if path and owner.host == liveness.host_name()]
        # A run of this machine that holds leases without a lock file is dead: it had one while it lived.
        if dead := [run for run in {*is_dead, *here} if is_dead.get(run, True)]:
            message = f"{name}: {plural(len(dead), 'dead run')} left locks or leases; the next run takes over"
            problems.append(problem("leftovers", message, self.command_on(batch, "run")))
        if condition.lost.files or condition.lost.unreadable:
            problems.append(self.lost_finding(batch, condition.lost))
        if condition.held:
            message = f"{name}: {plural(condition.held, 'job')} held for a person: whether it was accepted is unknown"
            problems.append(problem("jobs", message, self.command_on(batch, "resolve")))
        if condition.other_accounts:
            number = plural(condition.other_accounts, "job")
            message = f"{name}: {number} sent with another key: set that one, for a run to collect everything"
            problems.append(problem("jobs", message))
        folder = self.manifest_of(batch).absolute().parent
        problems += examine_output_folders(folder, condition.output_paths)
        problems += examine_rights(folder, condition.awaited_paths)
        if all(is_dead.values()):
            problems += examine_parts(folder, condition.output_paths, condition.downloading)
        yield from problems
        if not problems:
            yield ok("batch", f"{name}: every delivered file is there, and nothing is left of dead runs")

    def lost_finding(self, batch: StoredBatch, lost: LostFiles) -> Finding:
        """The delivered files of a batch that are not there, and the commands that fetch them again."""
        name = batch.name
        if lost.unreadable:  # then nobody knows which are lost
            message = f"{name}: delivered files could not be looked at: {lost.unreadable}"
            return problem("files", message, "", ExitCode.STORAGE)
        keys = {file.file.key for file in lost.files}
        message = f"{name}: {plural(len(lost.files), 'delivered file')} not there as delivered: {lost.listed(SHOWN)}"
        fetch = with_ids(self.command_on(batch, "retry --download"), list(keys) if len(keys) == 1 else [])
        return problem("files", message, f"{fetch} && {self.command_on(batch, 'run')}")


def moved_finding(name: str, move: Departure) -> Finding:
    """A batch that goes on in another table, where it is to be examined."""
    return ok("batch", f"{name}: it goes on in {move.place}, to which it was moved; name that table")
