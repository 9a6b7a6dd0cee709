"""A file for the user, under a name that is free: it appears whole or not at all, and replaces nothing."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

from batchgen.files.outputs import OutputFolder
from batchgen.files.safe_open import open_directory


def write_new(path: Path, content: bytes) -> None:
    """Write a file of the user's. Raises `FileExistsError` where the name is taken, `UnsafePath`, `OSError`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:  # a file stands where a folder should be
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), error.filename) from None
    temporary = f".{path.name}.{os.getpid()}"
    with open_directory(path.parent) as folder:
        folder.unlink(temporary)
        try:
            with os.fdopen(folder.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
                file.write(content)
                file.flush()
                with suppress(AttributeError):  # Windows has no permissions to give
                    os.fchmod(file.fileno(), OutputFolder(path.parent).video_mode)
                os.fsync(file.fileno())
            folder.move(temporary, path.name)
        finally:
            folder.unlink(temporary)
        folder.sync()
