"""The transfer of a file from one address to its `.part`: one request, and its body in pieces, within bounds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from rich.filesize import decimal

from batchgen.download.task import TRIES_TO_BELIEVE, Abandoned, DownloadTask, Obstructed
from batchgen.files.disk_space import FILE_BYTES_MAX
from batchgen.files.video import HEAD_BYTES, container_of
from batchgen.jobtable import delivery
from batchgen.services import failures, file_server, http
from batchgen.services.file_server import VersionChanged, validator, whole_size

PIECE_BYTES = 4 << 20  # handed to a thread at a time: most clips fit into one, and two are in memory for each download
SMALL_PIECE_BYTES = 256 << 10  # below this the hand-over costs more than to hash and write
SYNC_BYTES = 32 << 20  # of a growing file, between two syncs: a disk writes so much in tens of milliseconds
PIECE_SECONDS = 1.0  # after which a small piece is handed over, so that a killed run loses little of a slow download


async def receive(task: DownloadTask, client: http.Client, url: str, is_stopping: Callable[[], bool]) -> None:
    """Send one request, and append what comes to the `.part`. Some servers send a large file in several answers.

    Raises `Obstructed` and `Abandoned`; `Expired`, `NoFile` and `VersionChanged` of `file_server.py`; and what
    `FAILURES` and `BAD_ADDRESS` of `failures.py` have.
    """
    part = task.part
    headers = {"Range": f"bytes={part.size}-", "If-Range": part.etag} if part.size and part.etag else {}
    async with file_server.open_file(client, url, headers, task.context.service.base_url) as response:
        total = whole_size(response, part.size, part.etag)
        if response.status_code == 200:
            part.restart(validator(response))
        if total is not None and total > FILE_BYTES_MAX:
            raise Obstructed(
                f"the file server offers {decimal(total)}; no video has more than {decimal(FILE_BYTES_MAX)}"
            )
        if part.size != total or part.is_stale:
            if total is not None and total > PIECE_BYTES:  # otherwise the first piece is all of it, and checks itself
                await task.on_disk(part.outputs.check_space, part.target, total - part.size)
            await store_body(task, response, total, is_stopping)
    if total is not None and part.size < total:
        raise failures.IncompleteBody(f"{part.size} of {total} bytes came")
    if total is not None and part.size > total:
        raise VersionChanged


async def store_body(
    task: DownloadTask, response: http.Response, total: int | None, is_stopping: Callable[[], bool]
) -> None:
    """Append the body to the `.part`, in pieces, up to its `total` size. What came before a failure is kept."""
    loop = asyncio.get_running_loop()
    chunks: list[bytes] = []
    length, due = 0, loop.time() + PIECE_SECONDS
    bytes_left = (FILE_BYTES_MAX if total is None else total) - task.part.size
    writing: asyncio.Future[None] = loop.create_future()
    writing.set_result(None)
    try:
        async for chunk in file_server.stream_body(response):
            bytes_left -= len(chunk)
            if bytes_left < 0:
                endless = Obstructed(f"the file server sends more than {decimal(FILE_BYTES_MAX)}, and no end")
                raise endless if total is None else VersionChanged
            chunks.append(chunk)
            length += len(chunk)
            if is_stopping():
                raise Abandoned
            if length >= PIECE_BYTES or (length >= SMALL_PIECE_BYTES and loop.time() >= due):
                await writing
                # The disk has this piece while the next one comes.
                writing = asyncio.ensure_future(append(task, chunks))
                chunks, length, due = [], 0, loop.time() + PIECE_SECONDS
        await writing
    except Exception:
        await writing
        if chunks:
            await append(task, chunks)
        raise
    await append(task, chunks, is_last=True)


async def append(task: DownloadTask, chunks: Sequence[bytes], *, is_last: bool = False) -> None:
    """Append to the `.part`. Raises `NotVideo` where a page comes in place of the rest: what is there stays."""
    part = task.part
    if part.is_stale and part.recorded_etag and task.job.failures + 1 < TRIES_TO_BELIEVE:
        container_of(b"".join(chunk[:HEAD_BYTES] for chunk in chunks)[:HEAD_BYTES])
    # The row must never name one version while the `.part` holds bytes of another: first the disk forgets, then the
    # row is written, then the bytes. A file that comes in one piece needs no row, since nobody will resume it.
    if part.recorded_etag != part.etag and (part.recorded_etag or not is_last):
        if part.is_stale:
            await task.on_disk(part.append, ())
        await task.write(delivery.begun, part.etag)
        part.recorded_etag = part.etag
    await task.on_disk(part.append, chunks)
    if part.size - part.size_at_sync >= SYNC_BYTES:
        if part.syncing:
            await part.syncing  # bounds what the disk has yet to write
        part.size_at_sync = part.size
        part.syncing = asyncio.ensure_future(task.on_disk(part.sync))
