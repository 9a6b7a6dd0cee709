"""A file that a command makes for a person: it appears whole, and replaces only an earlier one of the same kind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from batchgen.errors import StorageError
from batchgen.files.safe_open import Directory, unsafe


@contextmanager
def report_file(path: Path, first_line: str) -> Iterator[IO[str]]:
    """Write a text file that begins with `first_line`. Its name gets the new content (atomic rename) once that is on
    the disk; after an exception everything is as it was.

    Raises `UnsafePath` where another file lies at `path`, `StorageError` where it cannot be written.
    """
    directory, part = Directory(path.parent, None), f".{path.name}.{os.getpid()}.part"
    judge(path, first_line)
    try:
        descriptor = directory.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
                file.write(first_line)
                yield file
                file.flush()
                os.fsync(file.fileno())
            judge(path, first_line)  # what another program has put there meanwhile stays
            os.replace(directory.locate(part), directory.locate(path.name))  # noqa: PTH105  as everything here
        finally:
            directory.unlink(part)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {error.strerror or error}") from error


def judge(path: Path, first_line: str) -> None:
    """Raise `UnsafePath` where anything but a file of ours with this line lies, `StorageError` without a folder."""
    directory, head = Directory(path.parent, None), first_line.encode()
    try:
        path.parent.stat()
        if status := directory.stat(path.name):
            directory.judge(path.name, status)
            with os.fdopen(directory.open(path.name, os.O_RDONLY), "rb") as file:
                if file.read(len(head)) != head:
                    raise unsafe(path, "was not made by this command", "nothing of yours is overwritten")
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {error.strerror or error}") from error
