"""fsync beside other work: of a file while it grows, and of a folder once for all files that get a name in it."""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import Awaitable, Callable
from pathlib import Path

SYNC_BYTES = 32 << 20  # between two syncs of a growing file: a disk writes so much in tens of milliseconds


def sync(path: Path) -> None:
    """fsync a file, or a folder for the names in it. Windows neither needs nor allows the second."""
    if os.name != "posix" and path.is_dir():
        return
    file = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def make_folder(folder: Path) -> None:
    """Create a folder and its missing parents, durably: each new name is synced in the folder that holds it."""
    if not folder.exists():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync(folder.parent)


class BackgroundSync:
    """Syncs a file while more of it comes, so that the sync of the whole file finds little left to write.

    An operating system reports a failed write once, to whoever syncs next. So every sync that began has to be waited
    for, before the file is believed to be whole.
    """

    def __init__(self) -> None:
        self.size = 0
        self.running: asyncio.Future[None] | None = None

    async def grow(self, size: int, sync_file: Callable[[], Awaitable[None]]) -> None:
        """Sync a file that has `size` bytes now, if enough of them are new. Raises the `OSError` of the sync before.

        Waits for that sync, so that what the disk has yet to write stays bounded.
        """
        if size - self.size >= SYNC_BYTES:
            await self.wait()
            self.size = size
            self.running = asyncio.ensure_future(sync_file())

    async def wait(self) -> None:
        """Wait for the sync that is running. Raises `OSError` if it fails."""
        running, self.running = self.running, None
        if running:
            await running


class FolderSync:
    """Group commit for folders: files that are renamed while a folder is being synced share the sync that follows."""

    def __init__(self, sync_folder: Callable[[Path], Awaitable[None]]) -> None:
        self.sync_folder = sync_folder
        self.turns: defaultdict[Path, asyncio.Lock] = defaultdict(asyncio.Lock)
        self.following: dict[Path, asyncio.Task[None]] = {}

    async def sync(self, folder: Path) -> None:
        """Return once a sync has ended that began after this call. Raises `OSError`."""
        if folder not in self.following:
            self.following[folder] = asyncio.create_task(self._sync_next(folder))
        # A caller that is cancelled must not cancel the sync of the others.
        await asyncio.shield(self.following[folder])

    async def _sync_next(self, folder: Path) -> None:
        async with self.turns[folder]:
            # A sync that has begun may miss a name: whoever calls from now on waits for another.
            del self.following[folder]
            await self.sync_folder(folder)
