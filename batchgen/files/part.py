"""A file on its way: `.part` beside the target, hashed as it grows, put in place only when it is whole.

All raise `OSError`. What may take the disk long, the downloader does in a thread or in a process of its own.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count, takewhile
from pathlib import Path

PIECE_BYTES = 256 << 10  # are hashed and written while the processor has them at hand


class Part:
    """The `.part` of one target."""

    def __init__(self, target: Path, named: str | None = None) -> None:
        self.target = target
        self.path = target.with_name(target.name + ".part")
        self.size = 0
        self.etag: str | None = None
        """The version that it is a part of."""
        self.named = named
        """The version that the table has for it."""
        self._hash = hashlib.sha256()

    def take_up(self, etag: str | None) -> None:
        """Go on with what an earlier try left, if `etag` names the version that it is a part of; else begin anew.

        What lies on the disk is read once, for the hash.
        """
        if etag is None or not self.path.exists():
            self.restart()
            return
        self.size, self.etag, self._hash = 0, etag, hashlib.sha256()
        with self.path.open("rb") as file:
            while chunk := file.read(1 << 20):
                self._hash.update(chunk)
                self.size += len(chunk)

    def restart(self) -> None:
        """Begin with nothing: the first bytes take the place of whatever lies there."""
        self.size, self.etag, self._hash = 0, None, hashlib.sha256()

    def append(self, chunks: Sequence[bytes]) -> None:
        """Add bytes at the end."""
        with self.opened() as file:
            for chunk in chunks:
                self.add(file, chunk)

    @contextmanager
    def opened(self) -> Iterator[int]:
        """The file, for bytes to be added at its end. What it held before a restart is gone."""
        mode = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if self.size else os.O_TRUNC) | getattr(os, "O_BINARY", 0)
        try:
            file = os.open(self.path, mode, 0o666)
        except FileNotFoundError:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(self.path, mode, 0o666)
        try:
            yield file
        finally:
            os.close(file)

    def add(self, file: int, chunk: bytes) -> None:
        """Hash and write bytes. After an `OSError` this object is of no more use."""
        whole = memoryview(chunk)
        for at in range(0, len(whole), PIECE_BYTES):
            piece = whole[at : at + PIECE_BYTES]
            self._hash.update(piece)
            while piece:
                written = os.write(file, piece)
                self.size += written
                piece = piece[written:]

    def discard(self) -> None:
        """Throw it away."""
        self.path.unlink(missing_ok=True)

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def place(self) -> Path:
        """Give it its name: the first that nothing has. A file that is not ours is never written over.

        The name lasts once its folder is in sync.
        """
        target = next(path for path in names(self.target) if not path.exists())
        self.path.replace(target)
        return target


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, would outlast a power cut."""
    if os.name != "posix" and path.is_dir():
        return  # there is nothing to be asked for, nor any need
    file = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def names(target: Path) -> Iterator[Path]:
    """What a file for `target` may be called: clip.mp4, else clip~1.mp4, clip~2.mp4 and so on."""
    yield target
    for number in count(1):
        yield target.with_name(f"{target.stem}~{number}{target.suffix}")


def placed(target: Path, size: int, sha256: str) -> Path | None:
    """Where exactly this file has been put for `target`; None where it has not."""
    return next((path for path in takewhile(Path.exists, names(target)) if holds(path, size, sha256)), None)


def holds(path: Path, size: int, sha256: str) -> bool:
    """Whether the file at `path` is exactly this one."""
    if not path.is_file() or path.stat().st_size != size:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == sha256
