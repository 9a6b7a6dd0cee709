"""A delivered file as a path that a decoder can open: its own, or for the time being a copy of an object."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO

from batchgen.files import object_store
from batchgen.files.disk_space import check_space
from batchgen.files.output_urls import is_url
from batchgen.files.placing import scratch_variable


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
    check_space(Path(file.name).parent, size)
    for piece in object_store.read(url, 0, size):
        file.write(piece)
    file.flush()
