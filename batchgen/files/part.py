"""A download on its way to its target: a `.part` file beside it, hashed as it grows, renamed once it is whole.

Everything here may wait for the disk, so the downloader calls it in a thread. Everything here may raise `OSError`.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Awaitable, Callable, Iterable, Iterator
from itertools import count
from pathlib import Path
from threading import Lock
from weakref import WeakValueDictionary

RENAMING = Lock()
"""Held from the choice of a free name to the rename, so that no other download of this run takes the name."""


class Part:
    """The `.part` file of one target. After an `OSError`, `size` and `sha256` may be wrong: make a new `Part`."""

    def __init__(self, target: Path, recorded_etag: str | None = None) -> None:
        self.target = target
        self.path = target.with_name(target.name + ".part")
        self.size = 0
        self.etag: str | None = None
        """The version of the file that these bytes belong to: its ETag or, without one, its Last-Modified date."""
        self.recorded_etag = recorded_etag
        """The version that the job's row names."""
        self.is_stale = True
        """What lies on the disk is not the beginning of this file: the next bytes replace it."""
        self.syncing: asyncio.Future[None] | None = None
        """The last sync that began beside the stream. Its error has to reach the job: it is reported only once."""
        self.size_at_sync = 0
        self._hash = hashlib.sha256()

    def resume(self) -> None:
        """Continue the file that an earlier try left, if the row names its version. Reads it once, for the hash."""
        if self.recorded_etag is None or not self.path.exists():
            return
        self.etag, self.is_stale = self.recorded_etag, False
        with self.path.open("rb") as file:
            self._hash = hashlib.file_digest(file, "sha256")
            self.size = file.tell()

    def restart(self, etag: str | None = None) -> None:
        """Begin again, for the bytes of version `etag`. Leaves the disk as it is until the first of them."""
        self.size, self.etag, self.is_stale, self._hash = 0, etag, True, hashlib.sha256()

    def append(self, chunks: Iterable[bytes]) -> None:
        """Write and hash bytes at the end. Creates the file, and its folder where it is missing."""
        if self.is_stale:
            make_folder(self.path.parent)
        # Not "ab": if a failed sync has removed the file, the rest must not become a file of its own.
        with self.path.open("wb" if self.is_stale else "r+b") as file:
            self.is_stale = False
            file.seek(self.size)
            # Write and hash each chunk while the processor's cache has it: joined chunks cost a third more system time.
            for chunk in chunks:
                file.write(chunk)
                self._hash.update(chunk)
                self.size += len(chunk)

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def sync(self) -> None:
        """fsync what has been written. If the disk has lost a part of it, the file is removed.

        Linux forgets the pages that it could not write and reports that once, so another try would find no error.
        """
        with self.path.open("r+b") as file:
            try:
                os.fsync(file.fileno())
            except OSError:
                self.path.unlink(missing_ok=True)
                raise

    def place(self) -> Path:
        """Sync the file, and rename it to the first free name for its target; returns that name.

        The name is durable once its folder is synced.
        """
        self.sync()
        with RENAMING:
            path = next(path for path in names_for(self.target) if not path.exists())
            self.path.replace(path)
        return path


class FolderSync:
    """Group commit for folders: files that are renamed while a folder is being synced share the sync that follows."""

    def __init__(self, sync_once: Callable[[Path], Awaitable[None]]) -> None:
        self.sync_once = sync_once
        self.turns: WeakValueDictionary[Path, asyncio.Lock] = WeakValueDictionary()
        self.following: dict[Path, asyncio.Task[None]] = {}

    async def sync(self, folder: Path) -> None:
        """Return once a sync has ended that began after this call. Raises `OSError`."""
        if folder not in self.following:
            self.following[folder] = asyncio.create_task(self._sync_next(folder))
        # A caller that is cancelled must not cancel the sync of the others.
        await asyncio.shield(self.following[folder])

    async def _sync_next(self, folder: Path) -> None:
        async with self.turns.setdefault(folder, asyncio.Lock()):
            # A sync that has begun may miss a name: whoever calls from now on waits for another.
            del self.following[folder]
            await self.sync_once(folder)


def make_folder(folder: Path) -> None:
    """Create a folder and its missing parents, durably: each new name is synced in the folder that holds it."""
    if not folder.exists():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """fsync a folder, for the names in it. Windows neither needs nor allows that."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def names_for(target: Path) -> Iterator[Path]:
    """The names that a file for `target` may get: clip.mp4, else clip~1.mp4, clip~2.mp4 and so on."""
    yield target
    yield from (numbered(target, number) for number in count(1))


def numbered(path: Path, number: int) -> Path:
    """The name of another file for the same job: clip.mp4 → clip~2.mp4."""
    return path.with_name(f"{path.stem}~{number}{path.suffix}")


def find_placed(target: Path, size: int, sha256: str) -> Path | None:
    """The file for `target` that has exactly this content, its name made durable; None if there is none."""
    for path in names_for(target):
        if not path.exists():
            return None
        if path.is_file() and path.stat().st_size == size:
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() == sha256:
                    sync_folder(path.parent)
                    return path
    return None
