"""Delivered files: whether they are still there, by existence and size, which is quick, or by their content; and as
a path that a decoder can open.

A file in an object store is judged by the store's description of it, or by its content.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
from collections.abc import AsyncIterator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO

from batchgen.errors import os_reason
from batchgen.files import object_store
from batchgen.files.disk_space import check_space
from batchgen.files.output_paths import is_url, path_fault, split_url
from batchgen.files.placing import scratch_variable

OTHER_CONTENT = "has other content than the one that was delivered"
QUESTIONS_AT_ONCE = 16  # to a store: each waits for a network


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
    is_unreadable: bool = False
    """It cannot be read: nobody knows whether it is there as it was."""

    def __str__(self) -> str:
        return f"{self.file.path} (job {self.file.key}) {self.fault}"


def losses_of(folder: Path, files: Iterable[DeliveredFile], *, verify: bool) -> Iterator[LostFile | None]:
    """What is wrong with each file, in their order; those in a store are asked for at the same time.

    Raises `OSError` where a store cannot be asked.
    """
    files = list(files)
    judge = partial(loss_of, folder, verify=verify)
    if not any(is_url(file.path) for file in files):
        yield from map(judge, files)
        return
    pool = ThreadPoolExecutor(QUESTIONS_AT_ONCE, "batchgen-store")
    try:
        yield from pool.map(judge, files)
    finally:
        pool.shutdown(cancel_futures=True)


def loss_of(folder: Path, file: DeliveredFile, *, verify: bool) -> LostFile | None:
    """What is wrong with one file; None for nothing. A link that a person has made to it is as good.

    Raises `OSError` where the file is in a store that cannot be asked: then nobody knows.
    """
    if not (fault := path_fault(file.path)):
        if is_url(file.path):
            fault = fault_of_object(file, verify=verify)
        else:
            try:
                fault = fault_of_file(f"{folder}/{file.path}", file, verify=verify)
            except OSError as error:
                return LostFile(file, f"cannot be read: {os_reason(error)}", is_unreadable=True)
    return LostFile(file, fault) if fault else None


def fault_of_file(path: str, file: DeliveredFile, *, verify: bool) -> str:
    """What is wrong with a file, in words; "" for nothing. Raises `OSError` where it cannot be read."""
    try:
        status = os.stat(path)  # noqa: PTH116  a hundred thousand of them
        if not stat.S_ISREG(status.st_mode):
            return "is no file any more"
        if (fault := fault_of_size(status.st_size, file.bytes)) or not verify:
            return fault
        with open(path, "rb") as content:  # noqa: PTH123
            is_same = hashlib.file_digest(content, "sha256").hexdigest() == file.sha256
    except (FileNotFoundError, NotADirectoryError):
        return "is missing"
    return "" if is_same else OTHER_CONTENT


def fault_of_object(file: DeliveredFile, *, verify: bool) -> str:
    """The same of an object of a store."""
    stored = object_store.describe(file.path)
    if stored is None:
        object_store.check_bucket(split_url(file.path).root)
        return "is missing"
    if not stored.is_file:
        return "is no file any more"
    if fault := fault_of_size(stored.size, file.bytes):
        return fault
    sha256 = object_store.digest_of(file.path) if verify else stored.sha256 or file.sha256
    return "" if sha256 == file.sha256 else OTHER_CONTENT


def fault_of_size(size: int, delivered: int) -> str:
    if size == delivered:
        return ""
    return f"has {size:,} bytes, and had {delivered:,}" if size else "is empty"


@asynccontextmanager
async def local_copy(folder: Path, output: str, size: int) -> AsyncIterator[Path]:
    """The path of an output below `folder`, or that of a copy of an object of `size` bytes. Raises `OSError`."""
    if not is_url(output):
        yield folder / output
        return
    with NamedTemporaryFile(dir=scratch_variable(), prefix="batchgen-") as file:
        await asyncio.to_thread(copy, output, size, file)
        yield Path(file.name)


def copy(url: str, size: int, file: IO[bytes]) -> None:
    """Copy an object of a store into a file."""
    check_space(Path(file.name).parent, size)
    for piece in object_store.read(url, 0, size):
        file.write(piece)
    file.flush()
