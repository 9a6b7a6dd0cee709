"""What a finished video takes from the file server to its place, hashed, checked and durable; beside curl."""

from __future__ import annotations

import asyncio
import os
import resource
import socketserver
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from batchgen import clock
from batchgen.downloader import Downloader
from batchgen.jobs import State
from batchgen.jobtable.database import Database
from batchgen.jobtable.statistics import batch_summary
from batchgen.limits.generation_times import GenerationTimes
from batchgen.manifest import Limits
from batchgen.runner import BREATH_SECONDS
from batchgen.simulator.rendering import tiny
from batchgen.stage import RunContext
from tests.benchmarks.measure import Figure
from tests.scripted import ScriptedService
from tests.table import Table, spec

AT_ONCE = 8
TIMES = 9  # a shared machine: single rounds are a quarter apart
MEGABYTE = 1_000_000
CASES = (("one file of 200 MB", 1, 200 * MEGABYTE, 0.7), ("500 files of 2 MB, 8 at once", 500, 2 * MEGABYTE, 0.55))


class Files(socketserver.StreamRequestHandler):
    """A file server that lets the kernel do the work."""

    video: Path

    def handle(self) -> None:
        with self.video.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            head = f'HTTP/1.1 200 OK\r\nContent-Length: {size}\r\nETag: "v1"\r\nContent-Type: video/mp4\r\n\r\n'
            while line := self.rfile.readline():
                if line != b"\r\n":
                    continue
                self.connection.sendall(head.encode())
                self.connection.sendfile(file)


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True


def figures() -> Iterator[Figure]:
    for what, number, size, bound in CASES:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            video = folder / "video.mp4"
            write(video, size)
            with subprocess.Popen(
                [sys.executable, "-m", "tests.benchmarks.downloads", str(video)], stdout=subprocess.PIPE, text=True
            ) as server:
                assert server.stdout
                url = server.stdout.readline().strip()
                try:
                    rounds = [(curl(url, number, folder), ours(url, number, folder)) for _ in range(TIMES)]
                finally:
                    server.kill()
        theirs, mine = (statistics.median(each) for each in zip(*rounds, strict=True))
        total = number * size / MEGABYTE
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        yield Figure(
            f"{what}: downloaded, hashed, checked, durable",
            f"{total / mine:.0f} MB/s, {theirs / mine:.2f} × of curl; {peak:.0f} MB resident",
            f"≥ {bound} ×; curl: {total / theirs:.0f} MB/s",
        )


def write(path: Path, size: int) -> None:
    """A video of `size` bytes: a short clip, and a box with nothing in it."""
    clip = tiny("large")
    path.write_bytes(clip + struct.pack(">I4s", size - len(clip), b"free"))
    os.truncate(path, size)


def curl(url: str, number: int, folder: Path) -> float:
    """Seconds that curl takes to fetch `number` files, without hashing, checking or syncing them."""
    with tempfile.TemporaryDirectory(dir=folder) as into:
        targets = "".join(f'url = "{url}/{each}"\noutput = "{into}/{each}.mp4"\n' for each in range(number))
        began = time.perf_counter()
        parallel = ["--parallel", "--parallel-max", str(AT_ONCE)] if number > 1 else []
        subprocess.run(
            ["curl", "--silent", "--no-progress-meter", "--fail", *parallel, "--config", "-"],
            input=targets,
            text=True,
            check=True,
        )
        return time.perf_counter() - began


def ours(url: str, number: int, folder: Path) -> float:
    """Seconds from the first claim to the last row."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        into = Path(name)
        with Database(into / "batchgen.db") as database:
            return asyncio.run(fetched(finished(database, into, url, number), number))


def finished(database: Database, folder: Path, url: str, number: int) -> RunContext:
    """A batch whose generations have all finished."""
    table = Table(database, folder, clock.utcnow())
    table.sync(*(spec(f"clip-{each}") for each in range(number)))
    for intent in table.intend(capacity=number):
        table.accept(intent, f"g-{intent.job.id}")
    for job in table.claim(State.GENERATING, capacity=number):
        table.finish(job)
    database.write_now(
        lambda connection: connection.exec_driver_sql("UPDATE jobs SET video_url = ? || '/' || id || '.mp4'", (url,))
    )
    return RunContext(database, ScriptedService(), table.batch_id, "run", folder, Limits(), GenerationTimes({}, {}))


async def fetched(context: RunContext, number: int) -> float:
    """Seconds that the downloader takes for `number` videos."""
    stage = Downloader(context, AT_ONCE)
    stage.on_change = lambda changed, _moved: changed.wakeup.set()
    began = time.perf_counter()
    try:
        await stage.tick(clock.utcnow())
        while stage.tasks:
            await stage.wakeup.wait()
            stage.wakeup.clear()
            await asyncio.sleep(BREATH_SECONDS)
            await stage.tick(clock.utcnow())
    finally:
        await stage.close()
    seconds = time.perf_counter() - began
    standing = await context.database.read(batch_summary, context.batch_id, clock.utcnow())
    assert standing.counts[State.DONE] == number, (standing, stage.failure)
    return seconds


def serve(video: Path) -> None:
    Files.video = video
    server = Server(("127.0.0.1", 0), Files)
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    threading.Thread(target=server.serve_forever).start()


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
