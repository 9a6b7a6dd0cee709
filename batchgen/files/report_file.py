"""A file that a command makes for a person: it appears whole, and replaces only an earlier one of the same kind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from batchgen.errors import StorageError, UsageError, os_reason
from batchgen.files.safe_open import Directory, set_mode, unsafe, user_mode

HEAD_BYTES = 4_000  # of a file, in which a file of ours has its mark


@contextmanager
def report_file(path: Path, mark: str) -> Iterator[IO[str]]:
    """A text file to write, with `mark` near its beginning: it gets its name once it is on the disk (atomic rename).

    After an exception everything is as it was. Raises `UnsafePath` where another file lies at `path`, `StorageError`
    where it cannot be written.
    """
    directory, part = Directory(path.parent, None), f".{path.name}.{os.getpid()}.part"
    judge(path, mark)
    try:
        descriptor = directory.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace", newline="") as file:
                yield file
                file.flush()
                set_mode(descriptor, user_mode())
                os.fsync(descriptor)
            judge(path, mark)  # what another program has put there meanwhile stays
            os.replace(directory.locate(part), directory.locate(path.name))  # noqa: PTH105  as everything here
        finally:
            directory.unlink(part)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {os_reason(error)}") from error


def judge(path: Path, mark: str) -> None:
    """Raise `UnsafePath` where anything but a file of ours with this mark lies. A missing folder is made.

    Raises `UsageError` where `path` names no file, `StorageError` where its folder cannot be made.
    """
    if path.is_dir() or path == Path("-"):
        raise UsageError(f"{path}: this is {'a folder' if path.is_dir() else 'no file'}; name a file to write")
    directory = Directory(path.parent, None)
    try:
        if not path.parent.exists():
            if path.parts[0].startswith("~"):  # Who is shown a folder of that name may remove his own.
                raise UsageError(f"{path}: no shell has filled in the ~ here; write the whole path")
            path.parent.mkdir(parents=True, exist_ok=True)
        if status := directory.stat(path.name):
            directory.judge(path.name, status)
            with os.fdopen(directory.open(path.name, os.O_RDONLY), "rb") as file:
                if mark.encode() not in file.read(HEAD_BYTES):
                    raise unsafe(path, "was not made by this command", "nothing of yours is overwritten")
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {os_reason(error)}") from error
