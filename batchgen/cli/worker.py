"""The command `batchgen worker`."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import click

from batchgen.advice.command_line import command_line
from batchgen.advice.next_step import is_said, next_step
from batchgen.api.event_loop import complete
from batchgen.api.worker import Worker, WorkerRun
from batchgen.catalogue.wording import plural
from batchgen.cli import options
from batchgen.cli.notices import notice_of
from batchgen.cli.signals import signals_handled
from batchgen.errors import BatchgenError, ExitCode, ManifestChanged, UsageError
from batchgen.jobtable import batches
from batchgen.jobtable.batches import EnrolledBatch
from batchgen.jobtable.database import Database
from batchgen.jobtable.engine import shown
from batchgen.jobtable.fingerprint import JobWithFiles, local_names
from batchgen.report import hints
from batchgen.report.formats import shortened
from batchgen.report.log import log_to_stderr
from batchgen.report.progress import RunProgress
from batchgen.report.run_events import Advice, Worked
from batchgen.report.terminal import READER_SECONDS, OutputStream, UnawaitedLines, print_json, results
from batchgen.report.words import summary_line
from batchgen.runs.ending import Ending
from batchgen.services.registry import SIMULATOR

FILES_SHOWN = 3


@options.db
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where outputs are written and local files lie. Default: the folder of each batch's manifest where that is on"
    " this machine, else the current folder.",
)
@click.option("--stay", is_flag=True, help="Wait for more when nothing is left to do, until a signal comes.")
@click.option(
    "--wait-for-credits", is_flag=True, help="Where the account has no credits left, wait for a top-up, as `run` does."
)
@click.option("-v", "--verbose", count=True, help="Log what the service is asked and answers; -vv: every request.")
@options.json_lines
def command(
    db: str | None, folder: Path | None, stay: bool, wait_for_credits: bool, verbose: int, as_json: bool
) -> None:
    """`batchgen run`, or `run --enroll` alone, writes a manifest's jobs, limits and cap into the table. Any number of
    workers, on any machine, share the batches, and keep the limits of the account together. The key comes from
    the environment, or a file .env in the folder. Only `run` heeds BATCHGEN_NOTIFY.

    A job whose request names a local file is sent only by a machine that has this file, with the same content. A worker
    ends when nothing is left that it can do. SIGTERM drains it: it claims nothing more, waits for create requests on
    the wire, and ends with 143; others go on with what it had begun.
    """
    location = batches.table_location(db, Path("batchgen.db"))
    if not batches.table_exists(location):
        raise UsageError(f"{location}: there is no job table; name one with --db")
    if folder and not folder.is_dir():
        raise UsageError(f"--folder {folder}: there is no such folder")
    lines = UnawaitedLines()
    log_to_stderr(verbose, lines)
    with Database(location, patience=None) as database:
        display = WorkerDisplay(database, as_json, lines)
        sys.exit(complete(work(display, folder and folder.absolute(), stay, wait_for_credits)))


async def work(display: WorkerDisplay, folder: Path | None, stays: bool, waits_for_credits: bool) -> ExitCode:
    worker = Worker(
        *(display.database, folder),
        stays=stays,
        waits_for_credits=waits_for_credits,
        show=display.show,
        on_error=display.show_error,
        on_idle=lambda: display.show_idle("nothing to do now: it waits for jobs, until a signal comes", None),
    )
    with signals_handled(worker.stop):
        code = await worker.run()
    if worker.signal:
        display.show_idle("stopped: others go on with what was begun", code)
    elif display.as_json or not worker.last_runs:
        display.show_idle("nothing is left that this worker can do", code)
    return code


@dataclass
class WorkerDisplay:
    """What a worker says of its runs, and between them."""

    database: Database
    as_json: bool
    lines: UnawaitedLines
    advices: dict[ExitCode, Advice] = field(default_factory=dict)
    """What to do after the first run that ended with each code."""
    has_reader: bool = True
    """Whether somebody has read standard output, when that was last tried."""

    @asynccontextmanager
    async def show(self, run: WorkerRun) -> AsyncIterator[None]:
        self.announce(run)
        async with self.progress_of(run).following():
            yield
        if run.ending:
            advice = self.report_end(run, run.ending)
            self.advices.setdefault(run.ending.exit_code, advice)

    def show_error(self, batch: EnrolledBatch, error: BatchgenError) -> None:
        self.lines.write(*f"{batch.name}: {error}".split("\n"))
        advice = hints.advice("")
        if isinstance(error, ManifestChanged):
            decide = self.command_for(batch, "run --changed keep")
            advice = hints.advice("a person decides, where the manifest is", decide)
            says = f"A worker does not decide that: `{decide}`, or --changed redo, where the manifest is"
            self.lines.write(says)
        self.advices.setdefault(error.exit_code, advice)
        if self.as_json:
            self.show_step(batch.name, "ended", str(error), error.exit_code, advice)

    def show_idle(self, message: str, code: ExitCode | None) -> None:
        self.show_step("", "idle", message, code, self.advices.get(code) if code else None)

    def announce(self, run: WorkerRun) -> None:
        """Say that a run begins, and which jobs only another machine can send."""
        spec = run.runner.context.spec
        message = f"{plural(spec.jobs, 'job')}, in {spec.folder}"
        if run.absent:
            message += f"; {absent_words(run.absent)}"
        self.show_step(run.batch.name, "began", message, None)

    def progress_of(self, run: WorkerRun) -> RunProgress:
        """The lines about one batch, among those about others."""
        runner, to_type = run.runner, partial(self.command_for, run.batch)
        return RunProgress(
            *(self.database, run.batch.id, run.batch.name, run.last_event, to_type),
            lambda: notice_of(runner, with_lock=False, to_type=to_type),
            as_json=self.as_json,
            runner=runner,
            is_one_of_many=True,
        )

    def command_for(self, batch: EnrolledBatch, name: str) -> str:
        """Another command on a batch of this table, to type where its manifest is."""
        db = self.database.path or shown(self.database.url)
        return command_line(name, batch.manifest_path, simulate=batch.service == SIMULATOR, db=db)

    def report_end(self, run: WorkerRun, ending: Ending) -> Advice:
        """Say how a run ended; an error is shown by `show_error`. Returns what to do next."""
        batch, step = run.batch, next_step(ending)
        advice = hints.advice(step.hint, step.command and self.command_for(batch, step.command))
        if self.as_json:
            self.show_step(batch.name, "ended", ending.message, ending.exit_code, advice)
        elif self.is_read():
            line = summary_line(batch.name, batch.service, ending.batch_summary)
            OutputStream(results()).write(f"{line}; {ending.message}")
            if step.hint and not run.runner.signal and not is_said(step, ending):
                self.lines.write(f"{batch.name}: {hints.next_line(step.hint, advice['next'])}")
        return advice

    def show_step(
        self,
        batch: str,
        step: Literal["began", "ended", "idle"],
        message: str,
        code: int | None,
        advice: Advice | None = None,
    ) -> None:
        if not self.as_json:
            self.lines.write(f"{batch}: {message}" if batch else message)
        elif self.is_read():
            after = advice or hints.advice("")
            event = Worked(event="worker", batch=batch, step=step, exit_code=code, message=message, **after)
            print_json(event, is_progress=True)

    def is_read(self) -> bool:
        """Whether a line for standard output holds up no run. A reader that does not read is waited for once."""
        self.has_reader = OutputStream(results()).is_read(READER_SECONDS if self.has_reader else 0)
        return self.has_reader


def absent_words(absent: Sequence[JobWithFiles]) -> str:
    names = list(dict.fromkeys(name for job in absent for name in local_names(job)))
    one = len(absent) == 1
    return (
        f"{plural(len(absent), 'job')} {'names a local file' if one else 'name local files'} that"
        f" {'is' if one else 'are'} not there as enrolled ({shortened(names, FILES_SHOWN)}): only a worker in whose"
        f" folder {'it lies sends it' if one else 'they lie sends them'}"
    )
