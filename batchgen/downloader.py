"""The downloader: finished generations → `.part` → verify → rename → row."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import Connection

from batchgen import clock
from batchgen.context import RunContext
from batchgen.download.fetching import fetch
from batchgen.download.task import Abandoned, DownloadTask, GenerationEnded, Obstructed, TryFailed, path_of
from batchgen.download.verification import deliver_placed, verify_and_place
from batchgen.errors import StorageError, os_reason
from batchgen.files.checker import Checker
from batchgen.files.disk_space import DISK_ERRORS, FILE_ERRORS, NO_SPACE, DiskFull, shortage
from batchgen.files.output_paths import is_url
from batchgen.files.part import PartBusy
from batchgen.files.placing import FolderPlacing, StorePlacing
from batchgen.files.safe_open import UnsafePath
from batchgen.files.video import NotVideo, Undecodable
from batchgen.jobs import Job, Output, State
from batchgen.jobtable import delivery, polling
from batchgen.jobtable.transition import next_due
from batchgen.limits.rate import backoff
from batchgen.services import file_server
from batchgen.services.file_server import NoFile
from batchgen.stage import Stage

T = TypeVar("T")

CLAIMED_PER_CONNECTION = 2  # jobs that wait for it: small files must not run out between two claims
DOWNLOADS_MAX = 32  # the highest number that a manifest may name
VERIFYING_MAX = 128  # files being checked and renamed: bounds the leases and the open files
RETRY_FIRST_SECONDS = 1.0  # of the backoff between two tries: most failures pass within seconds
RETRY_NO_VIDEO_SECONDS = 10.0  # of that backoff after an HTML page came in place of the video: a server under repair
RETRY_LONGEST_SECONDS = 300.0  # of the backoff: a file server that is back must not be noticed much later
OBSTACLE_PAUSE = timedelta(hours=1)  # a job whose file meets an obstacle waits so long, if no other run comes earlier

OBSTACLES = (UnsafePath, Obstructed)
"""A file with one of them is left to the next run."""
FAILED_TRIES = (NotVideo, TryFailed, NoFile, Undecodable, PartBusy, OSError)
"""The file may come in this run."""
FAULTS_OF_A_FILE = (*FAILED_TRIES, *OBSTACLES, GenerationEnded)


class Downloader(Stage):
    """Downloads finished videos. A paid video is never given up: a try that fails is followed by another."""

    def __init__(self, context: RunContext, at_once: int) -> None:
        super().__init__(context, at_once)
        self.verifying = 0
        """Files that have arrived and are being checked and renamed. They hold no connection."""
        self.without_space: set[str] = set()
        """The keys of jobs whose file did not fit on its disk."""
        self.client = file_server.client(DOWNLOADS_MAX)
        self.free_places = asyncio.Semaphore(at_once)
        """A download waits here for its turn; `resize` changes how many there are."""
        self.shrinking: set[asyncio.Task[bool]] = set()
        self.threads = ThreadPoolExecutor(2 * DOWNLOADS_MAX, "batchgen-disk")  # each may have one write and one rename
        self.checker = Checker()
        self.folder = FolderPlacing(context.spec.folder, self.on_disk)
        self.store = StorePlacing(context.spec.folder, self.on_disk)

    async def finish(self) -> None:
        """Claim nothing more, break off the downloads, and wait until the files that have arrived are delivered."""
        self.stopping = True
        # Closed connections end even a read for which no byte comes.
        await self.client.aclose()
        await super().finish()

    async def close(self) -> None:
        for task in self.shrinking:
            task.cancel()
        await self.client.aclose()
        self.threads.shutdown(wait=False)
        await self.checker.close()

    def resize(self, at_once: int) -> None:
        """Download so many files at one time from now on. Places that are in use go when their file has come."""
        for _ in range(at_once - self.at_once):
            self.free_places.release()
        for _ in range(self.at_once - at_once):
            task = asyncio.create_task(self.free_places.acquire())
            self.shrinking.add(task)
            task.add_done_callback(self.shrinking.discard)
        self.at_once = at_once

    @property
    def capacity(self) -> int:
        if self.context.disk_fault or self.stopping:
            return 0
        # Claimed jobs wait for a connection, so that none is free while the next jobs are claimed.
        downloading = len(self.tasks) - self.verifying
        return min((1 + CLAIMED_PER_CONNECTION) * self.at_once - downloading, VERIFYING_MAX - self.verifying)

    def claim(self, connection: Connection, now: datetime, capacity: int) -> tuple[list[Job], datetime | None]:
        context = self.context
        results_expire = context.service.features.keeps_results_for is not None
        jobs = delivery.claim_downloads(connection, self.claim_of(now, capacity), results_expire=results_expire)
        return jobs, next_due(connection, context.batch_id, State.DOWNLOADING)

    async def work(self, job: Job) -> None:
        """Try once to deliver a video. Why a try failed, and when the next follows, is written to the row."""
        try:
            fault = await self.deliver_outputs(job)
        except Abandoned:
            return
        write, run_id, now = self.context.database.write, self.context.run_id, clock.utcnow()
        if fault is None:
            self.context.obstacles.pop(job.key, None)
        elif isinstance(fault, GenerationEnded):
            await write(polling.failed, job, run_id, fault.outcome, now, leaving=State.DOWNLOADING)
        elif isinstance(fault, OBSTACLES):
            self.context.obstacles[job.key] = str(fault)
            await write(delivery.left_to_next_run, job, run_id, str(fault), now + OBSTACLE_PAUSE)
        else:
            await self.postpone(job, fault)

    async def postpone(self, job: Job, fault: Exception) -> None:
        """Let a job wait for its next try, longer after each failure in a row."""
        reason = f"{job.output_path}: {os_reason(fault)}" if isinstance(fault, OSError) else str(fault)
        if (advice := disk_advice(fault)) and not self.context.disk_fault:
            self.context.disk_fault, self.context.disk_advice = reason, advice
        self.log.debug("download.failed", extra={"job": job.key, "reason": reason})
        first_seconds = RETRY_NO_VIDEO_SECONDS if isinstance(fault, NotVideo) else RETRY_FIRST_SECONDS
        due_at = clock.utcnow() + backoff(job.failures + 1, first_seconds, RETRY_LONGEST_SECONDS)
        await self.context.database.write(delivery.postponed, job, self.context.run_id, reason, due_at)

    async def deliver_outputs(self, job: Job) -> Exception | None:
        """Try once to deliver each file of a generation. Returns the fault that decides what becomes of the job.

        A fault of one file keeps no other one away. The job fails only if no file of it may still come.
        """
        faults: list[Exception] = []
        for output in job.outputs:
            try:
                if not output.delivered_at:
                    await self.deliver_output(job, output)
            except FAULTS_OF_A_FILE as error:
                # Drop the traceback: its frames keep the `.part` and its lock open.
                faults.append(error.with_traceback(None))
                if disk_advice(error):
                    return faults[-1]
        return decisive_fault(faults)

    async def on_disk(self, function: Callable[..., T], *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self.threads, function, *args)

    async def deliver_output(self, job: Job, output: Output) -> None:
        """Deliver a file: one that a dead run has put in its place, else from its address.

        Where it fills the disk, or is not to be had any more, the `.part` gives its space back.
        """
        target = path_of(job.output_path, output.number)
        placing = self.store if is_url(job.output_path) else self.folder
        part = placing.part(target, job.attempt.client_request_id, output.etag)
        task = DownloadTask(self.context, job, output, target, placing, part, self.on_disk)
        try:
            if not await deliver_placed(task):
                await self.download(task)
        except (Obstructed, GenerationEnded):
            await self.on_disk(part.discard)
            raise
        except Abandoned:
            # This run was held up for longer than its lease: nobody goes on with its `.part`.
            if part.is_open and await self.context.database.read(delivery.is_over, job):
                await self.on_disk(part.discard)
            raise
        except OSError as error:
            if obstacle := await self.obstacle(task, error):
                raise obstacle from error
            raise
        finally:
            if part.is_open:
                # A cancelled caller does not wait here; another thread closes the file after the last write.
                await asyncio.shield(self.on_disk(part.close))

    async def obstacle(self, task: DownloadTask, error: OSError) -> Obstructed | None:
        """The obstacle that an error of the disk is to this file alone; None for a fault that every file meets.

        On a full disk the `.part` gives its space back. Where more than one file does not fit, nothing more is sent.
        """
        part, output_path = task.part, task.job.output_path
        if error.errno in FILE_ERRORS:
            return Obstructed(f"{output_path}: {FILE_ERRORS[error.errno] or os_reason(error)}")
        if error.errno not in NO_SPACE:
            return None
        # A system that refuses the first byte has no space for any file, or no quota, or no more names.
        is_full = error.errno == errno.EDQUOT or not (part.size or isinstance(error, DiskFull))
        await self.on_disk(part.discard)
        if is_full or bool(await self.on_disk(shortage, part.outputs.disk)):
            return None
        reason = f"{output_path}: {os_reason(error)}"
        self.without_space.add(task.job.key)
        # It may be a disk of its own. One large file may be odd; after two, what is bought may not fit either.
        if len(self.without_space) > 1 or await self.on_disk(part.outputs.is_scarce, part.target):
            self.context.refuse(StorageError(f"{reason}. {disk_advice(error).capitalize()}"))
        return Obstructed(reason)

    async def download(self, task: DownloadTask) -> None:
        async with self.free_places:
            try:
                cut = await fetch(task, self.client, lambda: self.stopping)
            finally:
                if task.part.syncing:
                    await task.part.syncing
        self.verifying += 1
        self.wakeup.set()
        try:
            await verify_and_place(task, self.checker, cut)
        finally:
            self.verifying -= 1


def decisive_fault(faults: Sequence[Exception]) -> Exception | None:
    """The fault that decides about the job; None if there is none.

    A fault that may pass goes before an obstacle, an obstacle before a failure for good; `NotVideo` first, because its
    pause is the longest.
    """
    order = (NotVideo, FAILED_TRIES, OBSTACLES, GenerationEnded)
    return next((fault for kinds in order for fault in faults if isinstance(fault, kinds)), None)


def disk_advice(fault: Exception) -> str:
    """What a person does about a fault that the next file would meet as well; "" for any other."""
    if not isinstance(fault, OSError) or fault.errno not in DISK_ERRORS:
        return ""
    return ", ".join(filter(None, (DISK_ERRORS[fault.errno], "then run the same command: what is paid waits")))
