"""The downloader: finished generations → `.part` → verify → rename → row."""

from __future__ import annotations

import asyncio
import errno
import json
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Connection

from batchgen import clock
from batchgen.files.checker import Checker, Media
from batchgen.files.disk_space import DISK_ERRORS, FILE_ERRORS, NO_SPACE, DiskFull, check_space, is_scarce
from batchgen.files.outputs import numbered
from batchgen.files.part import Part, PartBusy
from batchgen.files.placing import FolderPlacing, Placing, StorePlacing
from batchgen.files.safe_open import UnsafePath
from batchgen.files.unpacking import differences, unpack
from batchgen.files.video import HEAD_BYTES, NotVideo, Undecodable, container_of
from batchgen.jobs import ErrorClass, Job, Output, State
from batchgen.jobtable import delivery, polling
from batchgen.jobtable.transition import next_due
from batchgen.limits.generation_times import backoff
from batchgen.manifest.output_urls import is_url
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
SAME_BYTES = 3  # so many times the same odd file is taken for what the service has
ODD_FILES_MAX = 20  # of one video, if no two are the same: then the last one is taken for what the service has
GONE_AFTER = timedelta(hours=24)  # of an address that does not work, counted from the end of its generation
RETRY_FIRST_SECONDS = 1.0  # of the backoff between two tries: most failures pass within seconds
RETRY_NO_VIDEO_SECONDS = 10.0  # of that backoff after a page instead of a video: a server under repair sends many
RETRY_LONGEST_SECONDS = 300.0  # of the backoff: a file server that is back must not be noticed much later
NEXT_RUN = timedelta(hours=1)  # a job whose file meets an obstacle waits so long, if no other run comes earlier


class TryFailed(Exception):
    """This try brought no whole file, and another follows; `str(error)` says why."""


class Obstructed(Exception):
    """This job cannot be written to the disk, others may; a later run tries again. `str(error)` says why."""


class Ended(Exception):
    """The service does not have the file any more, or has none that plays."""

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
        self.folder = FolderPlacing(context.folder, self.on_disk)
        self.store = StorePlacing(context.folder, self.on_disk)

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
        first_seconds = RETRY_FIRST_SECONDS
        try:
            for output in job.outputs:
                if not output.delivered_at:
                    await self.deliver_output(job, output)
            self.context.obstacles.pop(job.key, None)
            return
        except (Abandoned, Stopped):
            return
        except Ended as error:
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
            if isinstance(error, NotVideo):
                first_seconds = RETRY_NO_VIDEO_SECONDS
        except OSError as error:
            reason = f"{job.output_path}: {error.strerror or error}"
            if error.errno in DISK_ERRORS:
                self.context.disk = self.context.disk or reason
        self.log.debug("download.failed", extra={"job": job.key, "reason": reason})
        wait = backoff(job.failures + 1, first_seconds, RETRY_LONGEST_SECONDS)
        await self.context.database.write(delivery.postponed, job, self.context.run, reason, clock.utcnow() + wait)

    async def on_disk(self, function: Callable[..., T], *args: Any) -> T:
        """Call a function that may wait for the disk, in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self.threads, function, *args)

    async def write(self, function: Callable[..., bool], job: Job, *values: Any) -> None:
        """Write to the rows of a job. Raises `Abandoned` if this run does not hold the job any more."""
        if not await self.context.database.write(function, job, self.context.run, *values):
            raise Abandoned

    def placing(self, job: Job) -> Placing:
        """The kind of place of a job's files."""
        return self.store if is_url(job.output_path) else self.folder

    async def deliver_output(self, job: Job, output: Output) -> None:
        """Deliver a file: one that a dead run has put in its place, else from its address.

        Where it fills the disk, or is not to be had any more, the `.part` gives its space back.
        """
        part = self.placing(job).part(path_of(job, output), job.attempt.client_request_id, output.etag)
        try:
            if not await self.deliver_placed(job, output, part):
                await self.download(job, output, part)
        except (TooLarge, Ended):
            await self.on_disk(part.discard)
            raise
        except OSError as error:
            if error.errno in FILE_ERRORS:
                raise Obstructed(f"{job.output_path}: {FILE_ERRORS[error.errno] or error.strerror}") from error
            if error.errno not in NO_SPACE:
                raise
            # A system that refuses the first byte has no space for any file, or no quota, or no more names.
            is_full = error.errno == errno.EDQUOT or not (part.size or isinstance(error, DiskFull))
            await self.on_disk(part.discard)
            if is_full or await self.on_disk(is_scarce, part.outputs.disk):
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
                cut = await self.fetch(job, output, part)
            finally:
                if part.syncing:
                    await part.syncing
        self.verifying += 1
        self.wakeup.set()
        try:
            await self.verify_and_place(job, output, part, cut)
        finally:
            self.verifying -= 1

    async def fetch(self, job: Job, output: Output, part: Part) -> str:
        """Fill the `.part` to its end. A cut connection is resumed, and an expired address is replaced.

        Returns how the server ended too early, where it has sent the same bytes so often that they may be the whole
        file all the same; else "".
        """
        url, is_fresh = output.url if job.failures < TRIES_PER_ADDRESS else None, False
        base_url, store = self.context.service.base_url, partial(self.append, job, output, part)
        check = partial(self.on_disk, check_space, part.outputs.disk)
        if part.recorded_etag:
            await self.on_disk(part.resume)
        for _ in range(CONNECTIONS_PER_TRY):
            if self.stopping:
                raise Abandoned
            if not url:
                url, is_fresh = await self.ask_address(job, output), True
            size_before = part.size
            try:
                await receive(self.client, url, base_url, part, store, check, lambda: self.stopping)
                return ""
            except Expired as error:
                if is_fresh:
                    raise gone_or_late(job, output, f"the video's address does not work: {error}") from error
                url = None
            except VersionChanged:
                part.restart()
            except http.BAD_ADDRESS as error:
                raise gone_or_late(
                    job, output, f"the service gave an unusable address: {http.describe(error)}"
                ) from error
            except http.FAILURES as error:
                if self.stopping or part.size > size_before:
                    continue
                reason = f"the file server {http.destination_of(url)[1]}: {http.describe(error)}"
                if part.size and isinstance(error, http.Interrupted) and await self.is_settled(job, output, part):
                    return reason
                raise TryFailed(reason) from error
        raise TryFailed(f"the file server ended the connection {CONNECTIONS_PER_TRY} times")

    async def append(
        self, job: Job, output: Output, part: Part, chunks: Sequence[bytes], *, is_last: bool = False
    ) -> None:
        """Append to the `.part`. Raises `NotVideo` where a page comes in place of the rest: what is there stays."""
        if part.is_stale and part.recorded_etag and job.failures < SAME_BYTES - 1:
            container_of(b"".join(chunk[:HEAD_BYTES] for chunk in chunks)[:HEAD_BYTES])
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

        Raises `Ended` where the service says that it has the file no more.
        """
        outcome = await self.context.fetch(job)
        if isinstance(outcome, Failed) and outcome.kind is ErrorClass.EXPIRED:
            raise Ended(replace(outcome, cost_usd=None))  # What it cost stays as it is known.
        if not isinstance(outcome, Finished) or len(outcome.files) < output.number:
            reason = outcome.reason if isinstance(outcome, Unavailable | Throttled) else "the service names no video"
            reason = f"the video needs a new address, and the service gives none now ({reason})"
            is_answer = (
                outcome.is_unknown_id if isinstance(outcome, Unavailable) else not isinstance(outcome, Throttled)
            )
            raise gone_or_late(job, output, reason) if is_answer and self.context.owns(job) else TryFailed(reason)
        url = outcome.files[output.number - 1]
        await self.write(delivery.relocated, job, output, url)
        return url

    async def verify_and_place(self, job: Job, output: Output, part: Part, cut: str) -> None:
        """Check and rename the file. The row comes last, so it never names a file that a power cut could take.

        `cut` says how the server ended too early: then only a file without a fault is whole.
        """
        video, media = part, Media()
        remarks = [f"whole, although {cut}" if cut else ""]
        try:
            try:
                video, head, remark = await self.on_disk(unpack, part)
                remarks.append(remark)
                media = await self.checker.check(video.path)
            except (NotVideo, Undecodable) as error:
                remarks.append(await self.judge_fault(job, output, part, error, cut))
            # Before the rename: after a crash between rename and row, the next run recognises the file by this.
            await self.write(delivery.verified, job, output, video.size, video.sha256, media)
            path = await self.placing(job).place(video, path_of(job, output))
        finally:
            if video is not part:
                await self.on_disk(video.discard)
        if video is not part:
            await self.on_disk(part.discard)
        remarks += differences(output, video, path, head)
        await self.record_delivery(
            job, output, video.size, video.sha256, path, "; ".join(filter(None, remarks)) or None
        )

    async def judge_fault(self, job: Job, output: Output, part: Part, error: NotVideo | Undecodable, cut: str) -> str:
        """The remark with which a file that has a fault is delivered, once it is sure that the service has no other.

        Raises `TryFailed` or `error` before that, and `Ended` where nothing in the file plays: then it is kept aside.
        """
        if cut:
            raise TryFailed(cut) from error  # The `.part` stays: the rest may come.
        if not await self.is_settled(job, output, part):
            await self.on_disk(part.discard)
            raise error
        if isinstance(error, Undecodable):
            return f"delivered as the service has it, the same {SAME_BYTES} times: {error}"
        kept = ""
        if part.size:
            path = await self.placing(job).place(part, f"{path_of(job, output)}.unplayable")
            kept = f". What came is kept as {path}"
        message = f"the file server has no video, {SAME_BYTES} times the same: {error}{kept}"
        raise Ended(Failed(message, job.attempt.remote_status or "", ErrorClass.NO_FILE, cost_usd=None)) from error

    async def is_settled(self, job: Job, output: Output, part: Part) -> bool:
        """Count that exactly these bytes came. Whether they came so often that no others are to be expected."""
        try:
            counts = Counter[str](json.loads(output.refused or "{}"))
            counts[part.sha256] += 1
            is_settled = counts[part.sha256] >= SAME_BYTES or counts.total() >= ODD_FILES_MAX
        except (ValueError, TypeError, RecursionError):  # a row that somebody else has written
            counts, is_settled = Counter([part.sha256]), False
        await self.write(delivery.refused, job, output, json.dumps(counts))
        return is_settled

    async def deliver_placed(self, job: Job, output: Output, part: Part) -> bool:
        """Deliver a file that a run has put in its place before it died; False if there is none."""
        if not output.sha256 or not output.bytes:
            return False
        path = await self.placing(job).find(part, path_of(job, output), output.bytes, output.sha256)
        if path:
            await self.record_delivery(job, output, output.bytes, output.sha256, path)
        return path is not None

    async def record_delivery(
        self, job: Job, output: Output, size: int, sha256: str, path: str, remark: str | None = None
    ) -> None:
        await self.write(delivery.placed, job, output, size, sha256, path, clock.utcnow(), remark)


def gone_or_late(job: Job, output: Output, reason: str) -> Exception:
    """What to raise for a file that the service and its file server do not have now.

    For a day, it may still come. One that was delivered once was there already, so a few tries show that it is gone.
    """
    now, was_there = clock.utcnow(), output.path is not None and job.failures + 1 >= SAME_BYTES
    if now - (job.attempt.finished_at or now) < GONE_AFTER and not was_there:
        return TryFailed(reason)
    message = f"the service does not have the file any more: {reason}"
    return Ended(Failed(message, job.attempt.remote_status or "", ErrorClass.EXPIRED, cost_usd=None))


def path_of(job: Job, output: Output) -> str:
    """Where a file goes: the first one of a generation to the job's own path, the others beside it."""
    return job.output_path if output.number == 1 else numbered(job.output_path, output.number, "-")
