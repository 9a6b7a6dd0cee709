"""The transfer of a file from one address to its `.part`: one request, and its body in pieces, within bounds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from batchgen.files.disk_space import FILE_BYTES_MAX, megabytes
from batchgen.files.part import Part
from batchgen.services import file_server, http
from batchgen.services.file_server import VersionChanged, validator, whole_size

PIECE_BYTES = 4 << 20  # handed to a thread at a time: most clips fit into one, and two are in memory for each download
SMALL_PIECE_BYTES = 256 << 10  # below this the hand-over costs more than to hash and write
PIECE_SECONDS = 1.0  # after which a small piece is handed over, so that a killed run loses little of a slow download


class TooLarge(Exception):
    """The file is, or claims to be, larger than any video; `str(error)` says so."""


class Stopped(Exception):
    """The run is stopping. What has come is in the `.part`."""


class Store(Protocol):
    """Appends chunks to the `.part`."""

    def __call__(self, chunks: Sequence[bytes], *, is_last: bool = False) -> Awaitable[None]: ...


async def receive(
    client: http.Client,
    url: str,
    base_url: str,
    part: Part,
    store: Store,
    check_space: Callable[[int], Awaitable[None]],
    is_stopping: Callable[[], bool],
) -> None:
    """Send one request, and append what comes to the `.part`. Some servers send a large file in several answers.

    `check_space` is called with the number of bytes that are to come, where the answer gives a large one.

    Raises `Expired`, `NoFile`, `VersionChanged`, `TooLarge`, `Stopped`, and `FAILURES` or `BAD_ADDRESS` of `http.py`.
    """
    headers = {"Range": f"bytes={part.size}-", "If-Range": part.etag} if part.size and part.etag else {}
    async with file_server.open_file(client, url, headers, base_url) as response:
        total = whole_size(response, part.size, part.etag)
        if response.status_code == 200:
            part.restart(validator(response))
        if total is not None and total > FILE_BYTES_MAX:
            raise TooLarge(
                f"the file server offers {megabytes(total)}; no video has more than {megabytes(FILE_BYTES_MAX)}"
            )
        if part.size != total or part.is_stale:
            if total is not None and total > PIECE_BYTES:  # otherwise the first piece is all of it, and checks itself
                await check_space(total - part.size)
            await store_body(response, part, total, store, is_stopping)
    if total is not None and part.size < total:
        raise http.IncompleteBody(f"{part.size} of {total} bytes came")
    if total is not None and part.size > total:
        raise VersionChanged


async def store_body(
    response: http.Response, part: Part, total: int | None, store: Store, is_stopping: Callable[[], bool]
) -> None:
    """Append the body to the `.part`, in pieces, up to its `total` size. What came before a failure is kept."""
    time = asyncio.get_running_loop().time
    chunks: list[bytes] = []
    length, due = 0, time() + PIECE_SECONDS
    bytes_left = (FILE_BYTES_MAX if total is None else total) - part.size
    writing: asyncio.Future[None] | None = None
    try:
        async for chunk in file_server.stream_body(response):
            bytes_left -= len(chunk)
            if bytes_left < 0:
                if total is not None:
                    raise VersionChanged
                raise TooLarge(f"the file server sends more than {megabytes(FILE_BYTES_MAX)}, and no end")
            chunks.append(chunk)
            length += len(chunk)
            if is_stopping():
                raise Stopped
            if length >= PIECE_BYTES or (length >= SMALL_PIECE_BYTES and time() >= due):
                if writing:
                    await writing
                # The disk has this piece while the next one comes.
                writing = asyncio.ensure_future(store(chunks))
                chunks, length, due = [], 0, time() + PIECE_SECONDS
        if writing:
            await writing
    except Exception:
        if writing:
            await writing
        if chunks:
            await store(chunks)
        raise
    await store(chunks, is_last=True)
