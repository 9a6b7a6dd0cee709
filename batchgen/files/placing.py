"""Where a verified file goes: to its place in the manifest's folder by a rename, or into an object store by an upload.

Both give it the first free name for its output, replace nothing, and recognise a file that a run has placed before it
died.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from batchgen.errors import StorageError, os_reason
from batchgen.files import object_store
from batchgen.files.output_paths import split_url
from batchgen.files.outputs import OutputFolder, name_of, paths_for
from batchgen.files.part import FolderSync, Part
from batchgen.files.safe_open import PRIVATE_FOLDER, Directory, open_below
from batchgen.files.store_client import StoreError

OnDisk = Callable[..., Awaitable[Any]]
SCRATCH_VARIABLE = "BATCHGEN_SCRATCH"
FOLDERS = (".batchgen", "parts")


class FolderPlacing:
    """Places files below the manifest's folder. The `.part` is beside its target."""

    def __init__(self, root: Path, on_disk: OnDisk) -> None:
        self.parts = OutputFolder(root)
        self.on_disk = on_disk
        self.folders = FolderSync(partial(on_disk, self.parts.sync))

    def part(self, output: str, attempt: str, recorded_etag: str | None) -> Part:
        """The `.part` of an output. Raises `UnsafePath`, perhaps only once it is used."""
        return Part(self.parts, output, attempt, recorded_etag)

    async def place(self, part: Part, output: str) -> str:
        """Give a whole file its name, durably, and return that: the first free one for `output`. Raises `OSError`."""
        path: str = await self.on_disk(part.place, output)
        await self.folders.sync(path)
        return path

    async def find(self, part: Part, output: str, size: int, sha256: str) -> str | None:  # noqa: ARG002
        """The name of the file with this content that a run has placed, or can place without a download; else None."""
        path: str | None = await self.on_disk(part.find_placed, size, sha256)  # its target is the output
        return path


class StorePlacing:
    """Uploads files. The `.part` is in a scratch folder, and goes once the object is there."""

    def __init__(self, root: Path, on_disk: OnDisk) -> None:
        self.parts = ScratchFolder(root)
        self.on_disk = on_disk

    def part(self, output: str, attempt: str, recorded_etag: str | None) -> Part:
        object_store.parts_of_url(output)  # before a byte of it is downloaded
        return Part(self.parts, name_of(output), attempt, recorded_etag)

    async def place(self, part: Part, output: str) -> str:
        for url in paths_for(output):
            with await asyncio.to_thread(part.reader) as file:
                is_stored = await object_store.upload(url, file, part.sha256)
            # The name is taken: by this very file, if an earlier answer was lost.
            is_this = is_stored or await self.holds(url, part.size, part.sha256)
            if is_this is None:
                raise StoreError("the store refuses the name of a video, and has nothing under it", split_url(url).root)
            if is_this:
                await self.on_disk(part.discard)
                return url
        raise AssertionError("the names never end")

    async def holds(self, url: str, size: int, sha256: str) -> bool | None:
        return await asyncio.to_thread(object_store.holds, url, size, sha256)

    async def find(self, part: Part, output: str, size: int, sha256: str) -> str | None:
        for url in paths_for(output):
            match await self.holds(url, size, sha256):
                case None:
                    break
                case True:
                    await self.on_disk(part.discard)
                    return url
        return await self.place(part, output) if await self.on_disk(part.recall, size, sha256) else None


Placing = FolderPlacing | StorePlacing


class ScratchFolder(OutputFolder):
    """The folder of the downloads that are to be uploaded: that of BATCHGEN_SCRATCH, else one beside the manifest."""

    def __init__(self, root: Path) -> None:
        self.named = scratch_variable()
        super().__init__(self.named or root.joinpath(*FOLDERS))
        self.disk = self.root if self.named else root

    def open_parent(self, output: str, *, create: bool = False) -> Directory:
        """The scratch folder itself, made where it is missing: every output of it is a bare name."""
        self.judge_path(output)
        return open_below(self.disk, () if self.named else FOLDERS, create=create, mode=PRIVATE_FOLDER)


def scratch_variable() -> Path | None:
    """The scratch folder that a person has named, made where it is missing. Raises `StorageError`."""
    if not (name := os.environ.get(SCRATCH_VARIABLE)):
        return None
    path = Path(name).absolute()
    try:
        path.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{SCRATCH_VARIABLE}={name}: {os_reason(error)}. Nothing has been sent.") from None
    return path
