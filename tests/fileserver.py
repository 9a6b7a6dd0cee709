"""A file server's answers, whole and cut, and a finished generation to download from it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from freezegun.api import FrozenDateTimeFactory as Clock

from batchgen.downloader import Downloader
from batchgen.files import video
from batchgen.files.checker import Checker
from batchgen.jobs import State
from batchgen.jobtable import delivery
from batchgen.simulator.rendering import tiny
from batchgen.stage import RunContext
from tests.scripted import turn
from tests.table import RUN, Table
from tests.wire import Wire, answer

CLIP, OTHER = tiny("mona"), tiny("lisa-the-second")
HALF = len(CLIP) // 2
V1, V2 = '"v1"', '"v2"'
PAGE = b"<html><title>Welcome to the airport</title></html>"


def broken() -> bytes:
    """A clip whose container is whole and whose pictures do not decode."""
    at = CLIP.index(b"mdat") + 4
    end = at - 8 + int.from_bytes(CLIP[at - 8 : at - 4], "big")
    return CLIP[:at] + b"\x55" * (end - at) + CLIP[end:]


def whole(content: bytes = CLIP, etag: str | None = V1, **headers: str | None) -> bytes:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return answer(200, content, {"ETag": etag, "Content-Type": "video/mp4", **named})


def rest(start: int, content: bytes = CLIP, etag: str | None = V1) -> bytes:
    span = f"bytes {start}-{len(content) - 1}/{len(content)}"
    return answer(206, content[start:], {"ETag": etag, "Content-Range": span})


def beyond(size: int) -> bytes:
    return answer(416, b"", {"Content-Range": f"bytes */{size}"})


def cut(told: bytes, body: int) -> bytes:
    """An answer whose connection ends after `body` bytes of its body."""
    return told[: told.index(b"\r\n\r\n") + 4 + body]


def asked(wire: Wire) -> list[tuple[str | None, str | None]]:
    """(Range, If-Range) of every request."""
    return [(request.headers.get("range"), request.headers.get("if-range")) for request in wire.requests]


PLAIN = (None, None)
SIZE = len(CLIP)
WEAK, DATE = 'W/"v1"', "Sun, 01 Mar 2026 11:00:00 GMT"
NEW, CUT = whole(OTHER, V2), cut(whole(), HALF)
PACKED = answer(200, b"\x1f\x8b\x08" + b"0" * 99, {"Content-Encoding": "gzip"})


def from_(start: int, etag: str = V1) -> tuple[str, str]:
    return f"bytes={start}-", etag


class CheckerInProcess(Checker):
    """Checks without a child process, whose start takes as long as the check of fifty clips."""

    async def check(self, path: Path) -> None:
        await asyncio.to_thread(video.check, path)


@asynccontextmanager
async def downloading(context: RunContext) -> AsyncIterator[Downloader]:
    stage = Downloader(context, 4)
    stage.checker = CheckerInProcess()
    try:
        yield stage
    finally:
        await stage.close()


def ready(table: Table, url: str, part: bytes | None = None, etag: str | None = None) -> Path:
    """A finished generation at `url`; `part` is what an earlier run left of it, under the version `etag`."""
    table.bring(State.DOWNLOADING)
    (job,) = table.claim(State.DOWNLOADING)
    table.change(delivery.relocated, job, RUN, url)
    if etag:
        table.change(delivery.begun, job, RUN, etag)
    table.bury()
    target = table.folder / "mona.mp4"
    if part is not None:
        target.with_name("mona.mp4.part").write_bytes(part)
    return target


async def turns(stage: Downloader, table: Table, clock: Clock, times: int) -> None:
    """Try so often, each time when the job is due."""
    for _ in range(times):
        due = table.row().next_at
        if due and due > table.now:
            table.now = due
            clock.move_to(due)
        await turn(stage)
