"""A file for the user, written beside its name and moved there when it is whole: it replaces nothing, or only an
earlier one of the same kind.

What a killed command leaves is one hidden file, `.NAME.part`, which the next call uses again.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedRandom, TextIOWrapper
from pathlib import Path

from batchgen.errors import StorageError, UsageError, os_reason
from batchgen.files.lock import is_own
from batchgen.files.safe_open import Directory, open_directory, set_mode, unsafe, user_mode

HEAD_BYTES = 4_000  # of a report, in which one of ours has its mark


class NameTaken(FileExistsError):
    """Another file has the name."""


class StagedFile:
    """The file while it is written. `place` gives it its name."""

    def __init__(self, folder: Directory, name: str, temporary: str, file: BufferedRandom) -> None:
        self.folder, self.name, self.temporary = folder, name, temporary
        self.file = file

    def place(self, *, replaces: bool = False) -> bool:
        """Make it durable under its name. False where a file with the same bytes has it already.

        A file that has the name goes where this one `replaces` it; else it raises `NameTaken`. Raises `OSError`.
        """
        self.file.flush()
        set_mode(self.file.fileno(), user_mode())
        os.fsync(self.file.fileno())
        try:
            if replaces:
                self.folder.rename(self.temporary, self.name)
            else:
                self.folder.move(self.temporary, self.name)
        except FileExistsError:
            if self.is_there():
                return False
            raise NameTaken(self.name) from None
        self.folder.sync()
        return True

    def is_there(self) -> bool:
        """Whether the file that has the name has the same bytes."""
        status = self.folder.stat(self.name)
        if status is None or status.st_size != self.file.seek(0, os.SEEK_END):
            return False
        self.file.seek(0)
        return self.folder.holds(self.name, status.st_size, hashlib.file_digest(self.file, "sha256").hexdigest())


@contextmanager
def stage(folder: Directory, name: str) -> Iterator[StagedFile]:
    """A file to write, which disappears unless it is placed.

    Raises `StorageError` where another process writes it, `UnsafePath`, `OSError`.
    """
    temporary = f".{name}.part"
    descriptor = folder.open(temporary, os.O_RDWR | os.O_CREAT)
    with os.fdopen(descriptor, "w+b") as file:
        if not is_own(folder, temporary, descriptor):
            raise StorageError(f"{Path(folder.path) / name}: another command writes this file. Wait for it to end")
        os.ftruncate(descriptor, 0)
        try:
            yield StagedFile(folder, name, temporary, file)
        finally:
            folder.unlink(temporary)


def write_new(path: Path, content: bytes) -> None:
    """Write a file of the user's. Raises `NameTaken`, `UnsafePath`, `OSError`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:  # a file stands where a folder should be
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), error.filename) from None
    with open_directory(path.parent) as folder, stage(folder, path.name) as staged:
        staged.file.write(content)
        if not staged.place():
            raise NameTaken(path.name)


@contextmanager
def report_file(path: Path, mark: str) -> Iterator[TextIOWrapper]:
    """A text file to write, with `mark` near its beginning. After an exception everything is as it was.

    Raises `UnsafePath` where another file lies at `path`, `StorageError` where it cannot be written.
    """
    check_target(path, mark)
    try:
        with open_directory(path.parent) as folder, stage(folder, path.name) as staged:
            text = TextIOWrapper(staged.file, encoding="utf-8", errors="replace", newline="")
            yield text
            text.flush()
            check_target(path, mark)  # what another program has put there meanwhile stays
            staged.place(replaces=True)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {os_reason(error)}") from error


def check_target(path: Path, mark: str) -> None:
    """Raise `UnsafePath` where anything but a file of ours with this mark lies. A missing folder is made.

    Raises `UsageError` where `path` names no file, `StorageError` where its folder cannot be made.
    """
    if path.is_dir() or path == Path("-"):
        raise UsageError(f"{path}: this is {'a folder' if path.is_dir() else 'no file'}; name a file to write")
    directory = Directory(path.parent, None)
    try:
        if not path.parent.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
        if status := directory.stat(path.name):
            directory.check_safe(path.name, status)
            with directory.reader(path.name) as file:
                if mark.encode() not in file.read(HEAD_BYTES):
                    raise unsafe(path, "was not made by this command", "nothing of yours is overwritten")
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {os_reason(error)}") from error
