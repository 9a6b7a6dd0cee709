"""A download on its way to its target: a `.part` file beside it, hashed as it grows, renamed once it is whole.

The name of a `.part` has that of its target and of its attempt: clip.mp4.1f3a9c0be2d4.part. So no two jobs, manifests
or job tables of one folder share one; a lock keeps out a second process that works on the same attempt.

Everything here may wait for the disk, so the downloader calls it in a thread. Everything here may raise `OSError` and
`UnsafePath`.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import re
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from io import BufferedReader
from pathlib import Path
from threading import Lock
from typing import BinaryIO
from weakref import WeakValueDictionary

from batchgen.files.disk_space import FILE_BYTES_MAX, check_space
from batchgen.files.lock import is_own
from batchgen.files.outputs import OutputFolder, name_of, paths_for
from batchgen.files.safe_open import UnsafePath, set_mode

HEAD_BYTES = 64 << 10  # of a file, kept in memory: what it begins with shows what it is
MARK_CHARS = 12  # of an attempt's id, in the name of its `.part`: 48 bits, so that no two attempts share one


class PartBusy(Exception):
    """Another process writes this `.part`."""


class Part:
    """The `.part` file of one target. After an `OSError`, `size` and `sha256` may be wrong: make a new `Part`.

    It stays open and locked from its first byte until `close`. Its methods may be called from several threads.
    """

    def __init__(self, outputs: OutputFolder, target: str, attempt: str, recorded_etag: str | None = None) -> None:
        self.outputs = outputs
        self.target, self.attempt = target, attempt
        self.name = f"{name_of(target)}.{mark_of(attempt)}.part"
        self.size = 0
        self.head = b""
        """Its first bytes, at most `HEAD_BYTES`."""
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
        self._descriptor: int | None = None
        self._guard = Lock()
        """Held while the descriptor is used: a number that was closed may be another file's in the next moment."""

    @property
    def path(self) -> Path:
        """For the check of the whole file, which opens it by itself."""
        return (self.outputs.root / self.target).with_name(self.name)

    def resume(self) -> None:
        """Continue the file that an earlier try left, if the row names its version. Reads it once, for the hash."""
        if self.recorded_etag is None:
            return
        with self._guard, suppress(FileNotFoundError):
            descriptor = self._open(create=False)
            if os.fstat(descriptor).st_size > FILE_BYTES_MAX:
                return
            os.lseek(descriptor, 0, os.SEEK_SET)
            with os.fdopen(os.dup(descriptor), "rb") as file:
                self._hash = hashlib.file_digest(file, "sha256")
                self.size = file.tell()
                self.head = head_of(file)
            self.etag, self.is_stale = self.recorded_etag, False

    def recall(self, size: int, sha256: str) -> bool:
        """Take up the whole file that an earlier try has verified; False where there is no file with this content."""
        with suppress(FileNotFoundError), self.reader() as file:
            if os.fstat(file.fileno()).st_size == size:
                content = hashlib.file_digest(file, "sha256")
                if content.hexdigest() == sha256:
                    self.size, self.is_stale, self._hash, self.head = size, False, content, head_of(file)
                    return True
        return False

    def reader(self) -> BufferedReader:
        """What has been written, from its first byte. Nothing may be appended meanwhile. Raises `FileNotFoundError`.

        It is opened anew: a duplicate of the descriptor would keep the lock for as long as anything reads, as a map of
        the file does until Python collects it.
        """
        with self._guard, self.outputs.open_parent(self.target) as directory:
            locked = self._open(create=False)
            descriptor = directory.open(self.name, os.O_RDONLY)
            if not os.path.samestat(os.fstat(descriptor), os.fstat(locked)):
                os.close(descriptor)
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.name)
            return os.fdopen(descriptor, "rb")

    def restart(self, etag: str | None = None) -> None:
        """Begin again, for the bytes of version `etag`. Leaves the disk as it is until the first of them."""
        self.size, self.head, self.etag, self.is_stale, self._hash = 0, b"", etag, True, hashlib.sha256()

    def append(self, chunks: Iterable[bytes]) -> None:
        """Write and hash bytes at the end. Creates the file, and its folder where it is missing.

        Raises `DiskFull`, `PartBusy`.
        """
        with self._guard:
            # If a failed sync has removed the file, the rest must not become a file of its own.
            descriptor = self._open(create=self.is_stale)
            if self.is_stale:
                os.ftruncate(descriptor, 0)
                self.is_stale = False
            check_space(descriptor if os.name == "posix" else self.outputs.disk, sum(map(len, chunks)))
            os.lseek(descriptor, self.size, os.SEEK_SET)
            # Write and hash each chunk while the processor's cache has it: joined chunks cost a third more system time.
            for chunk in chunks:
                write_whole(descriptor, chunk)
                self._hash.update(chunk)
                self.head += chunk[: HEAD_BYTES - len(self.head)]
                self.size += len(chunk)

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def sync(self) -> None:
        """fsync what has been written. If the disk has lost a part of it, the file is removed.

        Linux forgets the pages that it could not write and reports that once, so another try would find no error.
        """
        with self._guard:
            descriptor = os.dup(self._open(create=False))  # the stream goes on meanwhile
        try:
            os.fsync(descriptor)
        except OSError:
            self.discard()
            raise
        finally:
            os.close(descriptor)

    def place(self, target: str | None = None) -> str:
        """Sync the file, rename it to the first free name for its target, and close it. Returns that name.

        `target` is another one in the same folder. A file there with the same bytes is this one, and stays. The name is
        durable once its folder is synced.
        """
        with self._guard:
            set_mode(self._open(create=False), self.outputs.video_mode)
        self.sync()
        with self.outputs.open_parent(self.target) as directory:
            target = target or self.target
            if directory.holds(name_of(target), self.size, self.sha256):
                directory.unlink(self.name)
                self.close()
                return target
            for path in paths_for(target):
                with suppress(FileExistsError):
                    directory.move(self.name, name_of(path))
                    self.close()
                    return path
        raise AssertionError("the names never end")

    def find_placed(self, size: int, sha256: str) -> str | None:
        """The output that has exactly this content, its name made durable; None if there is none.

        A run that died while it placed the file may have left the `.part` as a second name of it, which is removed.
        """
        if size > FILE_BYTES_MAX:
            return None
        with suppress(FileNotFoundError), self.outputs.open_parent(self.target) as directory:
            for path in paths_for(self.target):
                placed = directory.stat(name_of(path))
                if placed is None:
                    return None
                if directory.holds(name_of(path), size, sha256):
                    leftover = directory.stat(self.name)
                    if leftover and os.path.samestat(leftover, placed):
                        directory.unlink(self.name)
                    directory.sync()
                    return path
        return None

    @property
    def is_open(self) -> bool:
        """Whether `close` has something to do. A cancelled caller may have left a thread that is opening the file."""
        return self._descriptor is not None or self._guard.locked()

    def discard(self) -> None:
        """Remove the file, which gives its space back."""
        with self._guard, suppress(FileNotFoundError, PartBusy, UnsafePath):
            self._open(create=False)
            with self.outputs.open_parent(self.target) as directory:
                directory.unlink(self.name)
        self.close()

    def close(self) -> None:
        """Release the file and its lock."""
        with self._guard:
            descriptor, self._descriptor = self._descriptor, None
            if descriptor is not None:
                os.close(descriptor)

    def _open(self, *, create: bool) -> int:
        """The descriptor of the file, opened and locked at the first call. Raises `PartBusy`, `FileNotFoundError`."""
        if self._descriptor is None:
            with self.outputs.open_parent(self.target, create=create) as directory:
                descriptor = directory.open(self.name, os.O_RDWR | (os.O_CREAT if create else 0))
                if not is_own(directory, self.name, descriptor):
                    os.close(descriptor)
                    raise PartBusy(f"another process downloads {self.target}")
            self._descriptor = descriptor
        return self._descriptor


def mark_of(attempt: str) -> str:
    """The part of an attempt's client request id that names its `.part`; a digest where the id is not one of ours."""
    match = re.fullmatch(r"batchgen-[0-9a-f]{16}-([0-9a-f]{32})", attempt)
    return (match[1] if match else hashlib.sha256(attempt.encode("utf-8", "replace")).hexdigest())[:MARK_CHARS]


def head_of(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.read(HEAD_BYTES)


def write_whole(descriptor: int, content: bytes) -> None:
    """Write all of it: the system may take a part at a time."""
    written = os.write(descriptor, content)
    while written < len(content):
        written += os.write(descriptor, memoryview(content)[written:])


class FolderSync:
    """Group commit for folders: files that are renamed while a folder is being synced share the sync that follows."""

    def __init__(self, sync_once: Callable[[str], Awaitable[None]]) -> None:
        self.sync_once = sync_once
        self.turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self.following: dict[str, asyncio.Task[None]] = {}

    async def sync(self, output: str) -> None:
        """Return once a sync of the output's folder has ended that began after this call. Raises `OSError`."""
        folder = output.rpartition("/")[0]
        if folder not in self.following:
            self.following[folder] = asyncio.create_task(self._sync_next(folder, output))
        # A caller that is cancelled must not cancel the sync of the others.
        await asyncio.shield(self.following[folder])

    async def _sync_next(self, folder: str, output: str) -> None:
        async with self.turns.setdefault(folder, asyncio.Lock()):
            # A sync that has begun may miss a name: whoever calls from now on waits for another.
            del self.following[folder]
            await self.sync_once(output)
