"""Bytes on their way into a `.part`: hashed and written beside the stream, in a thread, as soon as they have come."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import Executor
from queue import SimpleQueue

from batchgen.files.part import Part, sync
from batchgen.files.video import HEAD_BYTES, KIND_BYTES, check_head

SMALL_BYTES = 64 << 10  # are written sooner than a thread is told to
AHEAD_BYTES = 2 << 20  # of what is written, at most, is the stream
SYNC_BYTES = 32 << 20  # at a time are made durable while the next come


class Inflow:
    """What one answer brings. A thread out of `threads` takes it down where it is more than a little.

    `end` has to be called, whatever happens: the thread waits for it.
    """

    def __init__(self, part: Part, threads: Executor) -> None:
        self.part = part
        self.size = part.size
        """With what is not written yet."""
        self._threads = threads
        self._loop = asyncio.get_running_loop()
        self._known = part.size > 0
        self._first: list[bytes] = []
        """What came before there was a thread."""
        self._more: SimpleQueue[bytes | None] = SimpleQueue()
        """For the thread; None is the end."""
        self._writing: asyncio.Future[None] | None = None
        self._written = asyncio.Event()
        self._awaited = self._whole = False

    async def take(self, chunk: bytes) -> None:
        """The next bytes. Raises `NotVideo` where the first ones are of something else, and `OSError`."""
        self.size += len(chunk)
        if self._writing:
            self._more.put(chunk)
            await self._keep_up(self._writing)
            return
        self._first.append(chunk)
        gathered = sum(map(len, self._first))
        if not self._known and gathered >= KIND_BYTES:
            check_head(b"".join(each[:HEAD_BYTES] for each in self._first)[:HEAD_BYTES])
            self._known = True
        if gathered > SMALL_BYTES:
            while self._first:
                self._more.put(self._first.pop(0))
            self._writing = self._loop.run_in_executor(self._threads, self._write)
            self._writing.add_done_callback(lambda _: self._written.set())

    @property
    def _is_ahead(self) -> bool:
        return self.size - self.part.size > AHEAD_BYTES

    async def _keep_up(self, writing: asyncio.Future[None]) -> None:
        """Wait for the disk where it is too far behind. Raises `OSError` where it cannot be written."""
        while self._is_ahead and not writing.done():
            self._written.clear()
            self._awaited = True
            # Once more: the thread may have caught up before it could know that it is awaited.
            if self._is_ahead and not writing.done():
                await self._written.wait()
        if writing.done():
            await writing

    def _write(self) -> None:
        synced, syncing = self.part.size, None
        with self.part.opened() as file:
            while (chunk := self._more.get()) is not None:
                self.part.add(file, chunk)
                if self._awaited and not self._is_ahead:
                    self._awaited = False
                    self._loop.call_soon_threadsafe(self._written.set)
                if self.part.size - synced >= SYNC_BYTES and (syncing is None or syncing.done()):
                    synced = self.part.size
                    syncing = self._threads.submit(sync, self.part.path)
            if self._whole:
                os.fsync(file)

    def end(self, *, whole: bool) -> None:
        """No more will come. What a thread has of a `whole` file is made durable."""
        self._whole = whole
        self._more.put(None)

    async def landed(self) -> None:
        """Wait until all is written. Raises `OSError`."""
        if self._writing:
            await self._writing
        elif self._first or self._whole:
            self.part.append(self._first)
            self._first = []

    def drop(self) -> None:
        """Forget what is not written yet."""
        self._first = []
