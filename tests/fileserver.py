"""A file server's answers, whole and cut, and a finished generation to download from it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from freezegun.api import FrozenDateTimeFactory as Clock

from batchgen.context import RunContext
from batchgen.downloader import Downloader
from batchgen.files import video
from batchgen.files.checker import Checker, Media
from batchgen.files.outputs import OutputFolder
from batchgen.files.part import Part
from batchgen.jobs import State
from batchgen.jobtable import delivery
from batchgen.services.outcomes import Finished
from batchgen.simulator.rendering import tiny
from tests.scripted import ScriptedService, context_of, turn, turn_when_due
from tests.table import RUN, Table
from tests.wire import Wire, answer

CLIP, OTHER = tiny("mona"), tiny("lisa-the-second")
HALF = len(CLIP) // 2
V1, V2 = '"v1"', '"v2"'
PAGE = b"<html><title>Welcome to the airport</title></html>"


def undecodable_clip() -> bytes:
    """A clip whose container is whole but whose frames do not decode."""
    start = CLIP.index(b"mdat") + 4
    end = start - 8 + int.from_bytes(CLIP[start - 8 : start - 4], "big")
    return CLIP[:start] + b"\x55" * (end - start) + CLIP[end:]


def full_answer(content: bytes = CLIP, etag: str | None = V1, **headers: str | None) -> bytes:
    others = {name.replace("_", "-"): value for name, value in headers.items()}
    return answer(200, content, {"ETag": etag, "Content-Type": "video/mp4", **others})


def partial_answer(start: int, content: bytes = CLIP, etag: str | None = V1) -> bytes:
    span = f"bytes {start}-{len(content) - 1}/{len(content)}"
    return answer(206, content[start:], {"ETag": etag, "Content-Range": span})


def unsatisfiable(size: int) -> bytes:
    return answer(416, b"", {"Content-Range": f"bytes */{size}"})


def cut_off(full: bytes, length: int) -> bytes:
    """An answer whose connection ends after `length` bytes of its body."""
    return full[: full.index(b"\r\n\r\n") + 4 + length]


def requested_ranges(wire: Wire) -> list[tuple[str | None, str | None]]:
    """(Range, If-Range) of every request."""
    return [(request.headers.get("range"), request.headers.get("if-range")) for request in wire.requests]


NO_RANGE = (None, None)
DATE = "Sun, 01 Mar 2026 11:00:00 GMT"
GZIPPED = answer(200, b"\x1f\x8b\x08" + b"0" * 99, {"Content-Encoding": "gzip"})


def range_from(start: int, etag: str = V1) -> tuple[str, str]:
    return f"bytes={start}-", etag


class CheckerInProcess(Checker):
    """Checks without a child process, whose start takes as long as the check of fifty clips."""

    async def check(self, path: Path, _size: int) -> Media:
        return await asyncio.to_thread(video.check, path)


@asynccontextmanager
async def downloading(context: RunContext) -> AsyncIterator[Downloader]:
    stage = Downloader(context, 4)
    stage.checker = CheckerInProcess()
    try:
        yield stage
    finally:
        await stage.close()


def finished_generation(table: Table, url: str, part: bytes | None = None, etag: str | None = None) -> Path:
    """A generation whose video is at `url`. `part` is what an earlier run left of it, of the version `etag`.

    Returns the path that the video is to get.
    """
    table.bring(State.DOWNLOADING)
    (job,) = table.claim(State.DOWNLOADING)
    table.change(delivery.relocated, job, RUN, job.outputs[0], url)
    if etag:
        table.change(delivery.begun, job, RUN, job.outputs[0], etag)
    table.bury()
    if part is not None:
        part_of(table).write_bytes(part)
    return table.folder / "mona.mp4"


def part_of(table: Table) -> Path:
    """The `.part` of the newest attempt of mona."""
    return Part(OutputFolder(table.folder), "mona.mp4", table.attempt().client_request_id).path


async def download(
    table: Table,
    wire: Wire,
    part: bytes | None = None,
    etag: str | None = None,
    *,
    clock: Clock | None = None,
    tries: int = 1,
) -> Path:
    """Download a video of `wire` in so many tries; the service names no other address. Returns its path."""
    url = f"{wire.base_url}/v.mp4"
    target = finished_generation(table, url, part, etag)
    service = ScriptedService(fetches=[Finished((url,))])
    async with downloading(context_of(table, service)) as stage:
        await (turn_when_due(stage, table, clock, tries) if clock else turn(stage))
    return target
