"""The finished videos: rendered in a thread when first needed, kept in memory while there is room."""

from __future__ import annotations

import asyncio
import json
import struct
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256

from batchgen.simulator.ledger import Generation, Ledger
from batchgen.simulator.prices import clip_seconds

ROOM = 256 * 1024 * 1024  # bytes
PAINTERS = 2  # threads
ANOTHER = struct.pack(">I4s", 8, b"free")  # an empty box: it changes a file and not what it shows


@dataclass(frozen=True, slots=True)
class Video:
    """A file at the CDN and its strong ETag."""

    content: bytes
    etag: str

    @classmethod
    def of(cls, content: bytes) -> Video:
        return cls(content, f'"{sha256(content).hexdigest()[:32]}"')


class Gallery:
    """The videos of a ledger's generations. The same generation has the same bytes in every process."""

    def __init__(self, ledger: Ledger, *, instant: bool) -> None:
        self._ledger = ledger
        self._instant = instant
        self._hung: OrderedDict[str, Video] = OrderedDict()
        self._painting: dict[str, asyncio.Future[Video]] = {}
        self._threads = ThreadPoolExecutor(PAINTERS, "painter")
        self._bytes = 0
        self._exchanged: set[str] = set()

    def exchange(self, generation: Generation) -> None:
        """From now on another file stands in the place of this generation's video: as good, and 8 bytes longer."""
        self._exchanged.add(generation.id)

    async def video(self, generation: Generation) -> Video:
        """The video of a finished generation."""
        video = await self._original(generation)
        return Video.of(video.content + ANOTHER) if generation.id in self._exchanged else video

    async def size(self, generation: Generation) -> int:
        """The bytes of a finished generation's video."""
        if self._instant:
            from batchgen.simulator.rendering import tiny_size

            return tiny_size(generation.id) + (len(ANOTHER) if generation.id in self._exchanged else 0)
        return len((await self.video(generation)).content)

    async def _original(self, generation: Generation) -> Video:
        if self._instant:
            from batchgen.simulator.rendering import tiny

            return Video.of(tiny(generation.id))
        if generation.id in self._hung:
            self._hung.move_to_end(generation.id)
            return self._hung[generation.id]
        if generation.id not in self._painting:
            loop = asyncio.get_running_loop()
            image = self._ledger.image(generation.image) if generation.image else None
            painting = loop.run_in_executor(self._threads, _paint, generation, image)
            self._painting[generation.id] = painting
            painting.add_done_callback(lambda done: self._hang(generation.id, done))
        # One viewer who leaves must not take the picture from the others.
        return await asyncio.shield(self._painting[generation.id])

    def _hang(self, generation_id: str, done: asyncio.Future[Video]) -> None:
        del self._painting[generation_id]
        if done.cancelled() or done.exception():
            return
        self._hung[generation_id] = done.result()
        self._bytes += len(done.result().content)
        while self._bytes > ROOM and len(self._hung) > 1:
            _, oldest = self._hung.popitem(last=False)
            self._bytes -= len(oldest.content)

    def close(self) -> None:
        """Let the painters go; nobody waits for what they are at."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _paint(generation: Generation, image: bytes | None) -> Video:
    from batchgen.simulator.rendering import Scene, render

    body = json.loads(generation.body)
    prompt = body.get("prompt")
    return Video.of(
        render(
            Scene(
                generation.id,
                prompt if isinstance(prompt, str) else generation.model,
                min(clip_seconds(body), 60.0),
                _aspect(body.get("aspect_ratio", body.get("ratio"))),
                image,
            )
        )
    )


def _aspect(words: object) -> float | None:
    wide, _, high = str(words).partition(":")
    try:
        return float(wide) / float(high)
    except (ValueError, ZeroDivisionError):
        return None  # "auto", "adaptive", or not asked
