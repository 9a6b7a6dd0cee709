"""The posters of a batch for its page: those that are stored, and those that are made when they are first needed."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

from batchgen.files import object_store
from batchgen.files.checker import Checker
from batchgen.files.delivered import local_copy
from batchgen.files.output_paths import is_url
from batchgen.files.outputs import OutputFolder, name_of
from batchgen.files.posters import Posters
from batchgen.files.safe_open import UnsafePath
from batchgen.files.video import NotVideo, Undecodable
from batchgen.jobtable.clips import ClipFile


class PosterSource:
    """Reads and makes posters of delivered files. Close it in the event loop in which it was used."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.outputs = OutputFolder(folder)
        self.posters = Posters(folder)
        self.checker = Checker()

    async def poster(self, file: ClipFile) -> bytes | None:
        """The poster as WebP, made now where none is stored; None where the file is gone or does not decode."""
        if stored := await asyncio.to_thread(self.posters.read, file.sha256):
            return stored
        if not await asyncio.to_thread(self.is_there, file):
            return None
        try:
            async with local_copy(self.folder, file.path, file.bytes) as path:
                poster = (await self.checker.sample(path)).poster
        except (NotVideo, Undecodable, OSError):  # no decoder can be started, say: the page works without posters
            return None
        with suppress(OSError, UnsafePath):  # it can be made again
            await asyncio.to_thread(self.posters.store, file.sha256, poster)
        return poster

    def is_there(self, file: ClipFile) -> bool:
        """Whether a regular file lies at the path, without a link on the way: nothing else is given to the decoder."""
        try:
            if is_url(file.path):
                stored = object_store.describe(file.path)
                return stored is not None and stored.size == file.bytes
            with self.outputs.open_parent(file.path) as folder:
                status = folder.stat(name_of(file.path))
                return status is not None and status.st_size == file.bytes
        except (OSError, UnsafePath):
            return False

    async def close(self) -> None:
        await self.checker.close()
