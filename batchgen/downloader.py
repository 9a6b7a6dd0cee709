"""The downloader: finished generations → `.part` → verify → rename → row."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Connection

from batchgen import clock
from batchgen.files.checker import Checker, Media
from batchgen.files.disk_space import DISK_ERRORS, NO_SPACE, DiskFull, check_space, is_scarce
from batchgen.files.outputs import OutputFolder, numbered
from batchgen.files.part import FolderSync, Part, PartBusy
from batchgen.files.safe_open import UnsafePath
from batchgen.files.video import HEAD_BYTES, KIND_BYTES, NotVideo, Undecodable, check_head
from batchgen.jobs import ErrorClass, Job, Output, State
from batchgen.jobtable import delivery, polling
from batchgen.jobtable.transition import next_due
from batchgen.limits.generation_times import backoff
from batchgen.services import file_server, http
from batchgen.services.file_server import Expired, NoFile, VersionChanged
from batchgen.services.outcomes import Failed, Finished, Throttled, Unavailable
from batchgen.services.transfer import Stopped, TooLarge, receive
from batchgen.stage import LEASE, RunContext, Stage

T = TypeVar("T")

SYNC_BYTES = 32 << 20  # of a growing file, between two syncs: a disk writes so much in tens of milliseconds
CLAIMED_PER_CONNECTION = 2  # jobs that wait for it: small files must not run out between two claims
VERIFYING_MAX = 128  # files being checked and renamed: bounds the leases and the open files
CONNECTIONS_PER_TRY = 6  # a cut connection that brought something is followed by another at once
TRIES_PER_ADDRESS = 2  # then the service is asked whether the address has changed
SAME_BAD_BYTES = 3  # so many times the same undecodable file is taken for what the service has
RETRY_FIRST_SECONDS = 1.0  # of the backoff between two tries: most failures pass within seconds
RETRY_LONGEST_SECONDS = 300.0  # of the backoff: a file server that is back must not be noticed much later
NEXT_RUN = timedelta(hours=1)  # a job whose file meets an obstacle waits so long, if no other run comes earlier


class TryFailed(Exception):
    """This try brought no whole file, and another follows; `str(error)` says why."""


class Obstructed(Exception):
    """This job cannot be written to the disk, others may; a later run tries again. `str(error)` says why."""


class Gone(Exception):
    """The service does not have the file any more."""

    def __init__(self, outcome: Failed) -> None:
        self.outcome = outcome


class Abandoned(Exception):
    """The run is stopping, or another run has taken the job over. The `.part` stays for whoever continues."""


class Downloader(Stage):
    """Downloads finished videos. A paid video is never given up: a try that fails is followed by another."""

    def __init__(self, context: RunContext, at_once: int) -> None:
        super().__init__(context, at_once)
        self.verifying = 0
        """Files that have arrived and are being checked and renamed. They hold no connection."""
        self.client = file_server.client(at_once)
        self.threads = ThreadPoolExecutor(2 * at_once, "batchgen-disk")  # per connection, one writes and one renames
        self.checker = Checker()
        self.outputs = OutputFolder(context.folder)
        self.folders = FolderSync(partial(self.on_disk, self.outputs.sync))

    async def finish(self) -> None:
        """Claim nothing more, break off the downloads, and wait until the files that have arrived are delivered."""
        self.stopping = True
        # Closed connections end even a read for which no byte comes.
        await self.client.aclose()
        await super().finish()

    async def close(self) -> None:
        """Release connections, threads and the child process."""
        await self.client.aclose()
        self.threads.shutdown(wait=False)
        await self.checker.close()

    @property
    def capacity(self) -> int:
        if self.context.disk or self.stopping:
            return 0
        # Claimed jobs wait for a connection, so that none is free while the next jobs are claimed.
        downloading = len(self.tasks) - self.verifying
        return min((1 + CLAIMED_PER_CONNECTION) * self.at_once - downloading, VERIFYING_MAX - self.verifying)

    async def tick(self, now: datetime) -> datetime | None:
        if self.capacity <= 0:
            return None
        jobs, next_at = await self.context.database.write(self.claim, now, self.capacity)
        if jobs:
            self.checker.warm_up()
        for job in jobs:
            self.begin(self.deliver(job))
        return next_at

    def claim(self, connection: Connection, now: datetime, capacity: int) -> tuple[list[Job], datetime | None]:
        context = self.context
        expire = context.service.features.keeps_results_for is not None
        jobs = delivery.claim_downloads(
            connection, context.batch_id, context.run, now, now + LEASE, capacity, results_expire=expire
        )
        return jobs, next_due(connection, context.batch_id, State.DOWNLOADING)

    async def deliver(self, job: Job) -> None:
        """Try once to deliver a video. Why a try failed, and when the next follows, is written to the row."""
        try:
            for output in job.outputs:
                if not output.delivered_at:
                    await self.deliver_output(job, output)
            self.context.obstacles.pop(job.key, None)
            return
        except (Abandoned, Stopped):
            return
        except Gone as error:
            run, leaving = self.context.run, State.DOWNLOADING
            await self.context.database.write(polling.failed, job, run, error.outcome, clock.utcnow(), leaving=leaving)
            return
        except (UnsafePath, TooLarge, Obstructed) as error:
            self.context.obstacles[job.key] = reason = str(error)
            next_at = clock.utcnow() + NEXT_RUN
            await self.context.database.write(delivery.left_to_next_run, job, self.context.run, reason, next_at)
            return
        except (TryFailed, NoFile, NotVideo, Undecodable, PartBusy) as error:
            reason = str(error)
        except OSError as error:
            reason = f"{job.output_path}: {error.strerror or error}"
            if error.errno in DISK_ERRORS:
                self.context.disk = self.context.disk or reason
        self.log.debug("download.failed", extra={"job": job.key, "reason": reason})
        wait = backoff(job.failures + 1, RETRY_FIRST_SECONDS, RETRY_LONGEST_SECONDS)
        await self.context.database.write(delivery.postponed, job, self.context.run, reason, clock.utcnow() + wait)

    async def on_disk(self, function: Callable[..., T], *args: Any) -> T:
        """Call a function that may wait for the disk, in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self.threads, function, *args)

    async def write(self, function: Callable[..., bool], job: Job, *values: Any) -> None:
        """Write to the rows of a job. Raises `Abandoned` if this run does not hold the job any more."""
        if not await self.context.database.write(function, job, self.context.run, *values):
            raise Abandoned

    async def deliver_output(self, job: Job, output: Output) -> None:
        """Deliver a file: one that a dead run has put in its place, else from its address.

        Where it fills the disk, or is not to be had any more, the `.part` gives its space back.
        """
        part = Part(self.outputs, path_of(job, output), job.attempt.client_request_id, output.etag)
        try:
            if not await self.deliver_placed(job, output, part):
                await self.download(job, output, part)
        except (TooLarge, Gone):
            await self.on_disk(part.discard)
            raise
        except OSError as error:
            if error.errno not in NO_SPACE:
                raise
            # A system that refuses the first byte has no space for any file, or no quota, or no more names.
            is_full = error.errno == errno.EDQUOT or not (part.size or isinstance(error, DiskFull))
            await self.on_disk(part.discard)
            if is_full or await self.on_disk(is_scarce, self.outputs.root):
                raise
            raise Obstructed(f"{job.output_path}: {error.strerror}") from error
        finally:
            if part.is_open:
                # Cancelled, this does not wait: a thread that still writes is waited for in another thread.
                await asyncio.shield(self.on_disk(part.close))

    async def download(self, job: Job, output: Output, part: Part) -> None:
        """Fetch a file, verify it, and deliver it."""
        async with self.client.free_connections:
            try:
                await self.fetch(job, output, part)
            finally:
                if part.syncing:
                    await part.syncing
        self.verifying += 1
        self.wakeup.set()
        try:
            await self.verify_and_place(job, output, part)
        finally:
            self.verifying -= 1

    async def fetch(self, job: Job, output: Output, part: Part) -> None:
        """Fill the `.part` to its end. A cut connection is resumed, and an expired address is replaced."""
        url, is_fresh = output.url if job.failures < TRIES_PER_ADDRESS else None, False
        base_url, store = self.context.service.base_url, partial(self.append, job, output, part)
        check = partial(self.on_disk, check_space, self.outputs.root)
        if part.recorded_etag:
            await self.on_disk(part.resume)
        for _ in range(CONNECTIONS_PER_TRY):
            if self.stopping:
                raise Abandoned
            if not url:
                url, is_fresh = await self.ask_address(job, output), True
            size_before = part.size
            try:
                return await receive(self.client, url, base_url, part, store, check, lambda: self.stopping)
            except Expired as error:
                if is_fresh:
                    raise TryFailed(f"the video's address does not work: {error}") from error
                url = None
            except VersionChanged:
                part.restart()
            except http.BAD_ADDRESS as error:
                raise TryFailed(f"the service gave an unusable address: {http.describe(error)}") from error
            except http.FAILURES as error:
                if not self.stopping and part.size <= size_before:
                    raise TryFailed(f"the file server: {http.describe(error)}") from error
        raise TryFailed(f"the file server ended the connection {CONNECTIONS_PER_TRY} times")

    async def append(
        self, job: Job, output: Output, part: Part, chunks: Sequence[bytes], *, is_last: bool = False
    ) -> None:
        """Append to the `.part`. Raises `NotVideo` if the file starts like something else."""
        if not part.size and sum(map(len, chunks)) >= KIND_BYTES:
            check_head(b"".join(chunk[:HEAD_BYTES] for chunk in chunks)[:HEAD_BYTES])
        # The row must never name one version while the `.part` holds bytes of another: first the disk forgets, then the
        # row is written, then the bytes. A file that comes in one piece needs no row, since nobody will resume it.
        if part.recorded_etag != part.etag and (part.recorded_etag or not is_last):
            if part.is_stale:
                await self.on_disk(part.append, ())
            await self.write(delivery.begun, job, output, part.etag)
            part.recorded_etag = part.etag
        await self.on_disk(part.append, chunks)
        if part.size - part.size_at_sync >= SYNC_BYTES:
            if part.syncing:
                await part.syncing  # bounds what the disk has yet to write
            part.size_at_sync = part.size
            part.syncing = asyncio.create_task(self.on_disk(part.sync))

    async def ask_address(self, job: Job, output: Output) -> str:
        """A fresh address for the same file, from the service's free fetch endpoint.

        Raises `Gone` where the service says that it has the file no more.
        """
        outcome = await self.context.fetch(job)
        if isinstance(outcome, Failed) and outcome.kind is ErrorClass.EXPIRED:
            raise Gone(replace(outcome, cost_usd=None))  # What it cost stays as it is known.
        if not isinstance(outcome, Finished) or len(outcome.files) < output.number:
            reason = outcome.reason if isinstance(outcome, Unavailable | Throttled) else "the service names no video"
            raise TryFailed(f"the video needs a new address, and the service gives none now ({reason})")
        url = outcome.files[output.number - 1]
        await self.write(delivery.relocated, job, output, url)
        return url

    async def verify_and_place(self, job: Job, output: Output, part: Part) -> None:
        """Check and rename the file. The row comes last, so it never names a file that a power cut could take."""
        remark: str | None = None
        media: Media = {}
        try:
            media = await self.checker.check(part.path)
        except NotVideo:
            await self.on_disk(part.discard)
            raise
        except Undecodable as error:
            is_settled = output.sha256 == part.sha256 and job.failures + 1 >= SAME_BAD_BYTES
            if not is_settled:
                await self.write(delivery.verified, job, output, part.size, part.sha256)
                await self.on_disk(part.discard)
                raise
            remark = f"delivered as the service has it, the same {SAME_BAD_BYTES} times: {error}"
        # Before the rename: after a crash between rename and row, the next run recognises the file by this.
        await self.write(delivery.verified, job, output, part.size, part.sha256, media)
        path = await self.on_disk(part.place)
        await self.folders.sync(path)
        await self.record_delivery(job, output, part.size, part.sha256, path, remark)

    async def deliver_placed(self, job: Job, output: Output, part: Part) -> bool:
        """Deliver a file that a run has put in its place before it died; False if there is none."""
        if not output.sha256 or not output.bytes:
            return False
        path = await self.on_disk(part.find_placed, output.bytes, output.sha256)
        if path:
            await self.record_delivery(job, output, output.bytes, output.sha256, path)
        return path is not None

    async def record_delivery(
        self, job: Job, output: Output, size: int, sha256: str, path: str, remark: str | None = None
    ) -> None:
        await self.write(delivery.placed, job, output, size, sha256, path, clock.utcnow(), remark)


def path_of(job: Job, output: Output) -> str:
    """Where a file goes: the first one of a generation to the job's own path, the others beside it."""
    return job.output_path if output.number == 1 else numbered(job.output_path, output.number, "-")
