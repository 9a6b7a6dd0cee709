"""The downloader beside a plain loop of the same HTTP client that streams, hashes and writes.

The downloader also syncs, decodes, renames and records every file. Both fetch from the same file server, in turn.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import httpx2 as httpx

from batchgen import clock
from batchgen.downloader import Downloader
from batchgen.jobs import State
from batchgen.jobtable import polling
from batchgen.jobtable.database import Database
from batchgen.runner import TICK_GAP_SECONDS
from batchgen.services.outcomes import Finished
from batchgen.simulator.rendering import tiny
from batchgen.stage import Stage
from tests.benchmarks.measure import MEGABYTE, Figure, sized
from tests.scripted import ScriptedService, context_of
from tests.table import RUN, Table, spec

AT_ONCE = 8
ROUNDS = sized(9, 1)
"""Single rounds on a shared machine are a quarter apart."""
BOUND = 0.85
"""Of the rate of the plain loop."""
CASES = (
    ("one file of 200 MB", 1, sized(200, 20) * MEGABYTE),
    ("500 files of 2 MB, 8 at once", sized(500, 10), 2 * MEGABYTE),
)


def figures() -> Iterator[Figure]:
    for what, files, size in CASES:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_video(folder / "video.mp4", size)
            with file_server(folder / "video.mp4") as url:
                rounds = [
                    (run_plain_loop(url, files, folder), run_downloader(url, files, folder)) for _ in range(ROUNDS)
                ]
        plain, ours = (files * size / MEGABYTE / statistics.median(column) for column in zip(*rounds, strict=True))
        ratio = statistics.median(one / other for one, other in rounds)
        yield Figure(
            what,
            f"{ours:.0f} MB/s, {ratio:.2f} × of the plain loop",
            f"≥ {BOUND} × of the plain loop ({plain:.0f} MB/s)",
            ratio >= BOUND,
        )


def write_video(path: Path, size: int) -> None:
    """A playable file of `size` bytes: a short clip, and an MP4 box of free space."""
    clip = tiny("large")
    path.write_bytes(clip + struct.pack(">I4s", size - len(clip), b"free"))
    os.truncate(path, size)


@contextmanager
def file_server(video: Path) -> Iterator[str]:
    """The base URL of a file server in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.file_server", str(video)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        try:
            yield server.stdout.readline().strip()
        finally:
            server.kill()


def run_plain_loop(url: str, files: int, folder: Path) -> float:
    """Seconds that the plain loop takes."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        return asyncio.run(time_plain_loop(url, files, Path(name)))


async def time_plain_loop(url: str, files: int, folder: Path) -> float:
    """Seconds from the first request to the last byte. One file goes before, as it does with the downloader."""
    limits = httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=AT_ONCE)
    async with httpx.AsyncClient(limits=limits, timeout=30) as client:
        await download_plainly(client, f"{url}/warm-up.mp4", folder / "warm-up.mp4")
        numbers = iter(range(files))

        async def download_all() -> None:
            for number in numbers:
                await download_plainly(client, f"{url}/{number}.mp4", folder / f"{number}.mp4")

        began = time.perf_counter()
        await asyncio.gather(*(download_all() for _ in range(AT_ONCE)))
        return time.perf_counter() - began


async def download_plainly(client: httpx.AsyncClient, url: str, path: Path) -> None:
    """Stream, hash and write; no sync, no check of the video, no record."""
    digest = sha256()
    async with client.stream("GET", url) as response:
        with path.open("wb") as file:
            async for chunk in response.aiter_raw():
                digest.update(chunk)
                file.write(chunk)


def run_downloader(url: str, files: int, folder: Path) -> float:
    """Seconds that the downloader takes for the same files."""
    with tempfile.TemporaryDirectory(dir=folder) as name, Database(Path(name) / "batchgen.db") as database:
        table = Table(database, Path(name), clock.utcnow())
        seconds = asyncio.run(time_downloader(table, url, files))
        delivered = len(list(Path(name).glob("*.mp4")))
        assert delivered == files + 1, f"{delivered - 1} of {files} files were delivered"
        return seconds


async def time_downloader(table: Table, url: str, files: int) -> float:
    """Seconds from the first claim to the last row. One file goes before: what a run starts once is not measured."""
    await add_finished(table, url, ["warm-up"])
    stage = Downloader(context_of(table, ScriptedService()), AT_ONCE)
    ended = 0.0

    def note_end(changed: Stage, _moved: bool) -> None:
        nonlocal ended
        # A task ends once its row is durable. The runner's breath that follows belongs to no file.
        ended = time.perf_counter()
        changed.wakeup.set()

    stage.on_change = note_end
    try:
        await turn_to_end(stage)
        await add_finished(table, url, ["warm-up", *(f"clip-{number}" for number in range(files))])
        began = time.perf_counter()
        await turn_to_end(stage)
        return ended - began
    finally:
        await stage.close()


async def add_finished(table: Table, url: str, keys: list[str]) -> None:
    """Sync the batch to these jobs, and bring the new ones to where their generations have finished."""

    def accept_all() -> None:
        table.sync(*map(spec, keys))
        for job in table.intend(capacity=len(keys)):
            table.accept(job, f"g-{job.id}")

    await asyncio.to_thread(accept_all)
    for job in await asyncio.to_thread(table.claim, State.GENERATING, RUN, len(keys)):
        await table.database.write(polling.finished, job, RUN, Finished((f"{url}/{job.id}.mp4",)), table.now)


async def turn_to_end(stage: Downloader) -> None:
    """Tick the stage as the runner does, until it has delivered everything."""
    await stage.tick(clock.utcnow())
    while stage.tasks:
        await stage.wakeup.wait()
        stage.wakeup.clear()
        await asyncio.sleep(TICK_GAP_SECONDS)
        await stage.tick(clock.utcnow())
    if stage.failure:
        raise stage.failure
