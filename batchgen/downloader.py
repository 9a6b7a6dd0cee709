"""The downloader: finished generations → `.part` → verify → rename → row."""

from __future__ import annotations

import asyncio
import errno
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from sqlalchemy import Connection

from batchgen import clock
from batchgen.files.finisher import Finisher
from batchgen.files.inflow import Inflow
from batchgen.files.part import Part, placed
from batchgen.files.video import NotVideo, Undecodable
from batchgen.jobs import Job, State
from batchgen.jobtable import delivery
from batchgen.jobtable.transition import claim_due, next_due
from batchgen.limits.generation_times import backoff
from batchgen.services import http
from batchgen.services.base import Finished, Throttled, Unavailable
from batchgen.stage import LEASE, RunContext, Stage

THREADS_MOST = 3  # writing and syncing, for each download at once
FINISHING_MOST = 4  # files being checked and put in place, for each download at once
NAMED_SECONDS = 0.5  # what took longer to come is not fetched a second time, whatever happens to the run
CONNECTIONS_PER_TRY = 6  # a cut connection that brought something is followed by another at once
TRIES_PER_ADDRESS = 2  # then the fetch endpoint is asked whether the address has changed
SAME_BAD_BYTES = 3  # the same undecodable file so often is what the service has
RETRY_FIRST_SECONDS = 1.0
RETRY_LONGEST_SECONDS = 300.0
EXPIRED = frozenset({401, 403, 404, 410})
BEYOND_THE_JOB = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EMFILE, errno.ENFILE}
)
"""Errors that the next file would meet as well."""


class Again(Exception):
    """This try brought no whole file; `str` says why."""


class Expired(Exception):
    """The file server does not know this address, or not any more."""


class Restart(Exception):
    """What lies in the `.part` is not the beginning of what the server has now."""


class Short(Exception):
    """The answer ended well before the file did: a server that sends large files in pieces."""


class Stopping(Exception):
    """The run is ending; the `.part` waits for the next."""


class Downloader(Stage):
    """Pulls finished videos. What is paid for is never given up: a try that fails is followed by another."""

    def __init__(self, context: RunContext, at_once: int) -> None:
        super().__init__(context, at_once)
        self.places = asyncio.Semaphore(at_once)
        self.finishing = 0
        """Files that have come and are being checked and put in place. They take no place of a download."""
        self.client = http.download_client(at_once)
        self.threads = ThreadPoolExecutor(THREADS_MOST * at_once, "batchgen-disk")
        self.finisher = Finisher()

    async def close(self) -> None:
        """Let go of the connections, the threads and the finisher."""
        await self.client.aclose()
        self.threads.shutdown(wait=False)
        await self.finisher.close()

    @property
    def capacity(self) -> int:
        if self.context.disk or self.stopping:
            return 0
        # As many again wait for a place, so that none stands empty while the next are claimed.
        coming = 2 * self.at_once - (len(self.tasks) - self.finishing)
        return min(coming, FINISHING_MOST * self.at_once - self.finishing)

    async def tick(self, now: datetime) -> datetime | None:
        if self.capacity <= 0:
            return None
        found, next_at = await self.context.database.write(self.claim, now, self.capacity)
        if found:
            self.finisher.wake()
        for job in found:
            self.begin(self.deliver(job))
        return next_at

    def claim(self, connection: Connection, now: datetime, capacity: int) -> tuple[list[Job], datetime | None]:
        context = self.context
        found = claim_due(connection, context.batch_id, State.DOWNLOADING, context.run, now, now + LEASE, capacity)
        return found, next_due(connection, context.batch_id, State.DOWNLOADING)

    async def deliver(self, job: Job) -> None:
        """One try at one video, from the table's word that it exists to the file in its place."""
        try:
            await self.bring(job)
        except Stopping:
            return
        except (Again, NotVideo, Undecodable) as error:
            await self.postpone(job, str(error))
        except OSError as error:
            told = f"{job.output_path}: {error.strerror or error}"
            if error.errno in BEYOND_THE_JOB:
                self.context.disk = self.context.disk or told
            await self.postpone(job, told)

    async def postpone(self, job: Job, reason: str) -> None:
        wait = backoff(job.failures + 1, RETRY_FIRST_SECONDS, RETRY_LONGEST_SECONDS)
        await self.context.database.write(delivery.postponed, job, self.context.run, reason, clock.utcnow() + wait)

    async def bring(self, job: Job) -> None:
        context = self.context
        target = context.folder / job.output_path
        if job.sha256 and job.bytes and (found := await asyncio.to_thread(placed, target, job.bytes, job.sha256)):
            # The last run died between the rename and the row.
            await self.finisher.sync(found.parent)
            await self.settle(job, job.bytes, job.sha256, found.relative_to(context.folder).as_posix())
            return
        part = Part(target, job.etag)
        async with self.places:
            if self.stopping:
                raise Stopping
            inflow = await self.pull(job, part)
        self.finishing += 1
        self.wakeup.set()
        try:
            await self.finish_off(job, part, inflow)
        finally:
            self.finishing -= 1

    async def finish_off(self, job: Job, part: Part, inflow: Inflow | None) -> None:
        """Check what has come and put it in place; the row last."""
        context, told = self.context, None
        try:
            if inflow:
                await inflow.landed()
            await self.finisher.check(part.path)
        except NotVideo:
            await asyncio.to_thread(part.discard)
            raise
        except Undecodable as error:
            seen_before = job.sha256 == part.sha256 and job.failures + 1 >= SAME_BAD_BYTES
            await context.database.write(delivery.verified, job, context.run, part.size, part.sha256)
            if not seen_before:
                await asyncio.to_thread(part.discard)
                raise
            told = f"delivered as the service has it, the same {SAME_BAD_BYTES} times: {error}"
        else:
            if not await context.database.write(delivery.verified, job, context.run, part.size, part.sha256):
                return  # another run has taken it over, and will place it
        place = part.place()
        await self.finisher.sync(place.parent)
        await self.settle(job, part.size, part.sha256, place.relative_to(context.folder).as_posix(), told)

    async def settle(self, job: Job, size: int, sha256: str, output_path: str, told: str | None = None) -> None:
        write = self.context.database.write
        await write(delivery.delivered, job, self.context.run, size, sha256, output_path, clock.utcnow(), told)

    async def pull(self, job: Job, part: Part) -> Inflow | None:
        """Fill the `.part` to its end. A cut is taken up where it happened; an expired address is asked for anew.

        Returns what is still to land; nothing if all was there.
        """
        url, refreshed = job.video_url or "", False
        if not url or job.failures >= TRIES_PER_ADDRESS:
            url, refreshed = await self.relocate(job), True
        if job.etag:
            await asyncio.to_thread(part.take_up, job.etag)
        for _ in range(CONNECTIONS_PER_TRY):
            before = part.size
            try:
                return await self.stream(job, part, url)
            except Expired as error:
                if refreshed:
                    raise Again(f"the video's address does not work: {error}") from error
                url, refreshed = await self.relocate(job), True
            except Restart:
                part.restart()
            except http.BAD_ADDRESS as error:
                raise Again(f"the service gave an address that is none: {error}") from error
            except (*http.FAILURES, Short) as error:
                if part.size <= before:
                    raise Again(f"the file server: {http.describe(error)}") from error
        raise Again(f"the file server ended the connection {CONNECTIONS_PER_TRY} times")

    async def stream(self, job: Job, part: Part, url: str) -> Inflow | None:
        """One request, appended to the `.part` as it comes. Returns what is still to land."""
        asked = {"Range": f"bytes={part.size}-", "If-Range": part.etag} if part.size and part.etag else {}
        async with self.client.stream("GET", url, headers=asked) as response:
            total = await self.begin_body(job, part, response)
            if total is not None and part.size == total:
                return None
            inflow, naming = Inflow(part, self.threads), None
            time = asyncio.get_running_loop().time
            named_at = time() + NAMED_SECONDS
            try:
                async for chunk in response.aiter_raw():
                    await inflow.take(chunk)
                    if self.stopping:
                        raise Stopping
                    if part.size and not naming and time() >= named_at:
                        naming = asyncio.create_task(self.name(job, part))
                if total is not None and inflow.size < total:
                    raise Short(f"{inflow.size} of {total} bytes came")
                if total is not None and inflow.size > total:
                    raise Restart
                inflow.end(whole=True)
                return inflow
            except NotVideo:
                inflow.drop()
                raise
            except BaseException:
                inflow.end(whole=False)
                await inflow.landed()
                naming = naming or asyncio.create_task(self.name(job, part))
                raise
            finally:
                if naming:
                    await naming

    async def name(self, job: Job, part: Part) -> None:
        """Write down of which version the `.part` is, so that it can be continued."""
        if part.size and part.named != part.etag:
            await self.context.database.write(delivery.begun, job, self.context.run, part.etag)
            part.named = part.etag

    async def begin_body(self, job: Job, part: Part, response: http.Response) -> int | None:
        """Make the `.part` ready for what the server is about to send; the whole file's size, where it is named."""
        status, headers = response.status_code, response.headers
        etag = validator(response)
        total: int | None = None
        if status in EXPIRED:
            raise Expired(f"{status} {response.reason_phrase}")
        if status == 416:
            total = size_in(headers.get("content-range", ""))
            if total is None or total != part.size:
                raise Restart
            return total
        if status == 206:
            unit, _, span = headers.get("content-range", "").partition(" ")
            if unit != "bytes" or not span.startswith(f"{part.size}-") or (etag and etag != part.etag):
                raise Restart
            return size_in(span)
        if status != 200:
            raise Again(f"the file server answers {status} {response.reason_phrase}")
        length = headers.get("content-length", "")
        total = int(length) if length.isdigit() else None
        part.restart()
        if part.named is not None and part.named != etag:
            # First the row, then the disk: neither may name a version of which the other holds another.
            await self.context.database.write(delivery.begun, job, self.context.run, None)
            part.named = None
        part.etag = etag
        return total

    async def relocate(self, job: Job) -> str:
        """A fresh address for the same video, from the fetch endpoint; never a new submit."""
        outcome = await self.context.service.fetch(job.endpoint, job.generation_id or "", job.base_url)
        if not isinstance(outcome, Finished) or not outcome.url:
            reason = outcome.reason if isinstance(outcome, Unavailable | Throttled) else "the service names no video"
            raise Again(f"the video needs a new address, and none can be had now ({reason})")
        await self.context.database.write(delivery.relocated, job, self.context.run, outcome.url)
        return outcome.url


def validator(response: http.Response) -> str | None:
    """What names this version of the file in an If-Range header: a strong ETag, else the date."""
    etag = response.headers.get("etag", "")
    return etag if etag.startswith('"') else response.headers.get("last-modified") or None


def size_in(content_range: str) -> int | None:
    """The whole size at the end of a Content-Range."""
    total = content_range.rpartition("/")[2]
    return int(total) if total.isdigit() else None
