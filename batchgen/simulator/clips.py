"""The finished videos as files: rendered in a thread when first needed, and kept while there is space."""

import asyncio
import os
import struct
import tempfile
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from batchgen.simulator.ledger import Generation, Ledger

STORE_BYTES = 256 * 1024 * 1024  # of files on the disk; the least recently used are deleted and rendered again
RENDERINGS_AT_ONCE = 2  # each keeps one core busy
RENDER_SECONDS = 60.0  # of a clip at most: a longer one would take seconds to render
CHANGED_SUFFIX = struct.pack(">I4s", 8, b"free")  # an empty MP4 box: another file that shows the same


@dataclass(frozen=True, slots=True)
class RenderedClip:
    """A video file with its strong ETag."""

    path: Path
    etag: str
    stat: os.stat_result


class ClipStore:
    """The videos of a ledger, in a temporary folder. A generation has the same bytes in every process."""

    def __init__(self, ledger: Ledger, *, instant: bool) -> None:
        self._ledger = ledger
        self._instant = instant
        self._folder = tempfile.TemporaryDirectory(prefix="batchgen-simulator-", ignore_cleanup_errors=True)
        self._locks = [asyncio.Lock() for _ in range(RENDERINGS_AT_ONCE)]
        self._clips: OrderedDict[str, RenderedClip] = OrderedDict()
        self._bytes = 0
        self._changed: set[str] = set()

    def close(self) -> None:
        self._folder.cleanup()

    async def clip(self, generation: Generation) -> RenderedClip:
        original = await self._original(generation)
        if generation.id not in self._changed:
            return original
        return self._store(f"{generation.file}.changed", original.path.read_bytes() + CHANGED_SUFFIX)

    def change(self, generation: Generation) -> None:
        """From now on the generation's video is another file, 8 bytes longer, which plays the same."""
        self._changed.add(generation.id)

    def damage(self, clip: RenderedClip, name: str, content: bytes) -> RenderedClip:
        """A damaged copy of `clip` under the same ETag."""
        return self._store(f"{clip.path.name}.{name}", content, clip.etag)

    async def _original(self, generation: Generation) -> RenderedClip:
        # A generation always takes the same lock, so that it is rendered once for all who wait for it.
        async with self._locks[hash(generation.file) % RENDERINGS_AT_ONCE]:
            if clip := self._clips.get(generation.file):
                self._clips.move_to_end(generation.file)
                return clip
            image = self._ledger.image(generation)
            return self._store(generation.file, await asyncio.to_thread(self._make, generation, image))

    def _make(self, generation: Generation, image: bytes | None) -> bytes:
        from batchgen.simulator.rendering import Scene, render, tiny

        if self._instant:
            return tiny(generation.id)
        seconds = min(generation.seconds, RENDER_SECONDS)
        return render(Scene(generation.id, generation.prompt, seconds, generation.aspect, image))

    def _store(self, name: str, content: bytes, etag: str | None = None) -> RenderedClip:
        if name in self._clips:
            return self._clips[name]
        path = Path(self._folder.name, name)
        path.write_bytes(content)
        clip = RenderedClip(path, etag or f'"{sha256(content).hexdigest()[:32]}"', path.stat())
        self._clips[name] = clip
        self._bytes += clip.stat.st_size
        while self._bytes > STORE_BYTES and len(self._clips) > 1:
            _, oldest = self._clips.popitem(last=False)
            self._bytes -= oldest.stat.st_size
            with suppress(OSError):  # Windows refuses while the file is being served
                oldest.path.unlink()
        return clip
