"""A file for the user, under a name that is free: it appears whole or not at all, and replaces nothing."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from batchgen.files.safe_open import open_directory
from batchgen.files.staged_file import NameTaken, stage


def write_new(path: Path, content: bytes) -> None:
    """Write a file of the user's. Raises `FileExistsError` where the name is taken, `UnsafePath`, `OSError`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:  # a file stands where a folder should be
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), error.filename) from None
    try:
        with open_directory(path.parent) as folder, stage(folder, path.name) as staged:
            staged.file.write(content)
            if not staged.place():
                raise NameTaken(path.name)
    except NameTaken:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
