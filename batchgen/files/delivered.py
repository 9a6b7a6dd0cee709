"""Whether delivered files are still there: by existence and size, which is quick, or by their content."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class DeliveredFile:
    """A file that was delivered, as its row has it. `path` is relative to the manifest's folder."""

    key: str
    number: int
    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class LostFile:
    """A delivered file that is not there as it was; `fault` says in words what is there instead."""

    file: DeliveredFile
    fault: str

    def __str__(self) -> str:
        return f"{self.file.path} (job {self.file.key}) {self.fault}"


def fault_of(folder: Path, file: DeliveredFile, *, verify: bool) -> str:
    """What is wrong with one file, in words; "" for nothing. A link that a person has made to it is as good."""
    path = f"{folder}/{file.path}"
    try:
        status = os.stat(path)  # noqa: PTH116  a hundred thousand of them
    except (FileNotFoundError, NotADirectoryError):
        return "is missing"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if not stat.S_ISREG(status.st_mode):
        return "is no file any more"
    if status.st_size != file.bytes:
        return f"has {status.st_size:,} bytes, and had {file.bytes:,}" if status.st_size else "is empty"
    if verify:
        try:
            with open(path, "rb") as content:  # noqa: PTH123
                if hashlib.file_digest(content, "sha256").hexdigest() != file.sha256:
                    return "has other content than the one that was delivered"
        except OSError as error:
            return f"cannot be read: {error.strerror}"
    return ""
