"""Bytes on their way into a `.part`: gathered, then hashed and written beside the stream, not between its reads."""

from __future__ import annotations

import asyncio

from batchgen.part import Part
from batchgen.video import HEAD_BYTES, KIND_BYTES, check_head

PIECE_BYTES = 1 << 20


class Inflow:
    """What one answer brings. At most two pieces are in memory: one that gathers, and one on its way to the disk."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.size = part.size
        """With what is not on the disk yet."""
        self._chunks: list[bytes] = []
        self._gathered = 0
        self._known = part.size > 0
        self._writing: asyncio.Task[None] | None = None

    async def take(self, chunk: bytes) -> None:
        """The next bytes. Raises `NotVideo` where the first ones are of something else, and `OSError`."""
        self._chunks.append(chunk)
        self._gathered += len(chunk)
        self.size += len(chunk)
        if not self._known and self._gathered >= KIND_BYTES:
            check_head(b"".join(self._chunks)[:HEAD_BYTES])
            self._known = True
        if self._gathered >= PIECE_BYTES:
            await self._written()
            self._writing = asyncio.create_task(asyncio.to_thread(self.part.append, self._taken()))

    async def flush(self) -> None:
        """Wait until all is on the disk. Raises `OSError`."""
        if rest := await self.rest():
            await asyncio.to_thread(self.part.append, rest)

    async def rest(self) -> list[bytes]:
        """The last bytes, still to be appended, once all before them are on the disk. Raises `OSError`."""
        await self._written()
        return self._taken()

    def drop(self) -> None:
        """Forget what is not on the disk yet."""
        self._taken()

    def _taken(self) -> list[bytes]:
        chunks, self._chunks, self._gathered = self._chunks, [], 0
        return chunks

    async def _written(self) -> None:
        if self._writing:
            await self._writing
            self._writing = None
