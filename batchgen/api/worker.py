"""A worker: runs on every batch of a job table that has work, without their manifests.

What a run needs besides its jobs are rows: the service, the limits of the manifest, what a person has set. A job with a
local file is sent only where that file is, with the content that was enrolled.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from signal import Signals

from batchgen import clock
from batchgen.api.opening import open_account
from batchgen.context import RunSpec
from batchgen.errors import BatchgenError, ExitCode, TableLocked
from batchgen.files.local_files import FileDigests
from batchgen.jobtable import batches, fingerprint, rows, selection, statistics
from batchgen.jobtable.batches import EnrolledBatch
from batchgen.jobtable.database import Database
from batchgen.jobtable.fingerprint import JobWithFiles
from batchgen.jobtable.selection import Selected
from batchgen.jobtable.sync import SyncResult
from batchgen.limits.steering import read_enrolled, read_steering
from batchgen.runner import Runner, give_up_lock
from batchgen.runs.ending import Ending
from batchgen.services.registry import SIMULATOR
from batchgen.stage import wait_for

CHECK_SECONDS = 2.0  # between two looks for batches that have work: a new one is begun within this time
AGAIN_AFTER = timedelta(minutes=1)
"""A batch that ended incomplete is tried again after this time, if nobody has changed it."""
BATCHES_AT_ONCE = 8  # runs of one worker: each has connections, threads and a checker of its own


@dataclass(slots=True)
class WorkerRun:
    batch: EnrolledBatch
    runner: Runner
    absent: list[JobWithFiles]
    """The jobs whose local files are not here as they were enrolled."""
    last_event: int
    ending: Ending | None = None


@dataclass(frozen=True, slots=True)
class EndedRun:
    """How the last run on a batch ended, and what the batch was like when it began."""

    code: ExitCode
    batch: EnrolledBatch
    at: datetime


Show = Callable[[WorkerRun], AbstractAsyncContextManager[None]]
"""What is around each run: a display of its progress."""


@dataclass(eq=False)
class Worker:
    """Works on the batches of a table until it can do nothing more; with `stays`, until it is stopped."""

    database: Database
    folder: Path | None
    stays: bool = False
    waits_for_credits: bool = False
    show: Show = lambda _run: nullcontext()
    on_error: Callable[[EnrolledBatch, BatchgenError], None] = lambda _batch, _error: None
    on_idle: Callable[[], None] = lambda: None
    runs: dict[int, WorkerRun] = field(default_factory=dict)
    """By batch, until their end is noted."""
    tasks: dict[int, asyncio.Task[None]] = field(default_factory=dict)
    last_runs: dict[int, EndedRun] = field(default_factory=dict)
    signal: Signals | None = None
    wakeup: asyncio.Event = field(default_factory=asyncio.Event)
    lock_watch: asyncio.Task[None] | None = None

    async def run(self) -> ExitCode:
        """Work on all batches. Returns the exit code of the first run that has not delivered everything."""
        was_idle = False
        try:
            while not self.signal:
                self.wakeup.clear()
                await self.begin_runs()
                if not self.tasks and not self.stays:
                    break
                if not self.tasks and not was_idle:
                    self.on_idle()
                was_idle = not self.tasks
                await wait_for(self.wakeup, CHECK_SECONDS)
        except TableLocked:
            if not self.signal:  # else a person has ended the wait
                raise
        finally:
            if not self.signal:
                self.drain(signal.SIGTERM)  # The table cannot be used, or this is cancelled.
            await asyncio.gather(*self.tasks.values())
            if self.lock_watch:
                self.lock_watch.cancel()
        if self.signal:
            return ExitCode(128 + self.signal)
        return next((last.code for last in self.last_runs.values() if last.code), ExitCode.DELIVERED)

    async def begin_runs(self) -> None:
        """Begin a run on every batch that has work, and forget those that have ended. Raises what a defect raises."""
        for batch_id, task in list(self.tasks.items()):
            if task.done():
                del self.tasks[batch_id]
                task.result()
        for batch in await self.database.read(batches.open_batches):
            if batch.id in self.tasks:
                await self.select_again(batch)
            elif self.is_workable(batch) and len(self.tasks) - self.paused_run_count < BATCHES_AT_ONCE:
                self.tasks[batch.id] = asyncio.create_task(self.work(batch))

    def runners(self) -> list[Runner]:
        """The runners of the runs whose end is not noted yet."""
        return [run.runner for run in self.runs.values()]

    @property
    def paused_run_count(self) -> int:
        """How many runs only wait for the end of a pause."""
        contexts = [runner.context for runner in self.runners()]
        return sum(bool(context.steering.pause) and context.in_flight_at_pause == 0 for context in contexts)

    def is_workable(self, batch: EnrolledBatch) -> bool:
        """Whether a run may have something to do: the batch is new here, was changed, or has had some time."""
        last = self.last_runs.get(batch.id)
        return last is None or batch != last.batch or (self.stays and clock.utcnow() - last.at >= AGAIN_AFTER)

    def stop(self, stopped_by: Signals) -> None:
        """The first signal drains: nothing more is claimed, and every run ends in good order. The second cancels."""
        if self.signal:
            self.database.lock.impatient.set()
        self.signal = self.signal or stopped_by
        self.drain(stopped_by)
        self.wakeup.set()

    def drain(self, stopped_by: Signals) -> None:
        """Let every run end. Only a create that is still to be recorded waits meanwhile for another program's lock."""
        self.lock_watch = self.lock_watch or asyncio.create_task(give_up_lock(self.database.lock, self.runners))
        for runner in self.runners():
            runner.stop(stopped_by)

    async def work(self, batch: EnrolledBatch) -> None:
        """Run on one batch to its end. An error ends this run only."""
        code = ExitCode.INTERNAL_ERROR
        try:
            code = (await self.run_batch(batch)).exit_code
        except BatchgenError as error:
            code = error.exit_code
            self.on_error(batch, error)
        finally:
            if run := self.runs.pop(batch.id, None):
                # The run has applied all settings made while it was at work. A batch whose run could not begin keeps
                # its old mark.
                batch = replace(run.batch, setting=max(run.batch.setting, run.runner.upkeep.heeded_version))
            self.last_runs[batch.id] = EndedRun(code, batch, clock.utcnow())
            self.wakeup.set()

    async def run_batch(self, batch: EnrolledBatch) -> Ending:
        read, folder = self.database.read, self.folder_of(batch)
        steering = await read(read_steering, batch.id)
        enrolled = read_enrolled(steering)
        ids, absent = await self.sendable(batch, folder)
        spec = RunSpec(
            batch=batch,
            jobs=len(ids) + len(absent),
            synced=SyncResult(batch.id, orphans=await read(rows.ids_of, batch.id, enrolled.orphans)),
            folder=folder,
            limits=enrolled.limits,
            models=await read(batches.models_of, batch.id),
            selected=Selected(ids),
            is_worker=True,
            waits_for_credits=self.waits_for_credits,
        )
        # A simulator keeps its generations beside the manifest; elsewhere, another one would not know them.
        simulator_folder = Path(batch.manifest_path).parent
        is_simulated_here = batch.service == SIMULATOR and simulator_folder.exists()
        account_folder = simulator_folder if is_simulated_here else folder
        async with open_account(self.database, batch.service, account_folder) as service:
            last_event = await read(statistics.last_event)
            run = WorkerRun(batch, Runner(self.database, service, spec), absent, last_event)
            self.runs[batch.id] = run
            if self.signal:
                run.runner.stop(self.signal)
            async with self.show(run):
                run.ending = ending = await run.runner.run()
            return ending

    def folder_of(self, batch: EnrolledBatch) -> Path:
        """Where the outputs and local files of a batch are: the worker's folder, else the manifest's."""
        manifest, table = Path(batch.manifest_path), self.database.path
        if self.folder or manifest.exists():
            return self.folder or manifest.parent
        if table and (table.parent / manifest.name).exists():  # Table and manifest were moved together.
            return table.parent
        return Path.cwd()

    async def sendable(self, batch: EnrolledBatch, folder: Path) -> tuple[list[int], list[JobWithFiles]]:
        """The jobs that this machine can send, and those that it cannot, because their local files are not here."""
        with_files = await self.database.read(fingerprint.jobs_with_files, batch.id)
        recorded = await self.database.read(fingerprint.recorded_digests, batch.name) if with_files else []

        def find_absent() -> list[JobWithFiles]:
            digests = FileDigests(folder, recorded)
            return [job for job in with_files if not job.is_whole(digests.of)]

        absent = await asyncio.to_thread(find_absent)
        ids = await self.database.read(selection.ids_without, batch.id, [job.id for job in absent])
        return ids, absent

    async def select_again(self, batch: EnrolledBatch) -> None:
        """Take up what was enrolled since the run on a batch began."""
        run = self.runs.get(batch.id)
        if run is None or batch.synced_at == run.batch.synced_at:
            return
        context = run.runner.context
        ids, absent = await self.sendable(batch, context.spec.folder)
        models = await self.database.read(batches.models_of, batch.id)
        if self.runs.get(batch.id) is not run or run.runner.over.is_set():
            return  # The next run takes it up.
        run.absent = absent
        context.spec = replace(context.spec, models=models)
        if context.spec.selected:
            context.spec.selected.replace(ids)
        run.batch = batch
        run.runner.notify(*run.runner.stages)
