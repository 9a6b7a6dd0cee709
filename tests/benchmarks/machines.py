"""Several processes on one PostgreSQL: claims and whole jobs a second, a million rows, and enrolment from far away."""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path

from sqlalchemy.engine import make_url

from batchgen import clock
from batchgen.api.enrolling import batch_of
from batchgen.jobtable import sync
from batchgen.jobtable.database import Database
from batchgen.manifest.reader import read
from batchgen.simulator.ledger import Ledger
from tests.benchmarks import claims, million, scale
from tests.benchmarks.first_request import run_to_first_request
from tests.benchmarks.measure import Figure, python_process, sized, write_manifest
from tests.benchmarks.peers.job import SPEED
from tests.campaign.postgres.server import DURABLE
from tests.conftest import simulator_process
from tests.postgres import Server, binaries, serving
from tests.tcp_proxy import TcpProxy

WORKERS = (1, 2, 4, 8)
CLAIMS = sized(3_000, 40)
JOBS = sized(1_200, 40)
LARGE, SMALL = sized(1_000_000, 2_000), sized(10_000, 1_000)
ROWS_BOUND = 1.5
"""Of the time in the small table, for what a run repeats for every job."""
ENROLMENT_SECONDS = 30.0
DELAY_SECONDS = 0.02
"""Of each round trip."""
ROUNDS = sized(3, 1)
PEER = "procrastinate"


def figures() -> Iterator[Figure]:
    binary = binaries()
    if binary is None:
        yield Figure("all of this part", "no PostgreSQL is installed", "")
        return
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        server = stack.enter_context(serving(binary, DURABLE))
        yield from compare_claims(server, folder)
        yield from compare_jobs(server, folder)
        yield from compare_rows(server)
        yield enrolment(server, folder)


def compare_claims(server: Server, folder: Path) -> Iterator[Figure]:
    """Claims a second of one job each, by both, in turn."""
    manifest = write_manifest(folder / "claims.yaml", CLAIMS)
    for workers in WORKERS:
        url = enrolled(server, manifest)
        ours = claims.claims_per_second(claims.by_batchgen, url, workers)
        theirs = None
        if find_spec(PEER):
            from tests.benchmarks.peers import procrastinate_postgres

            peer_url = server.create()
            procrastinate_postgres.enroll(peer_url, CLAIMS)
            theirs = claims.claims_per_second(claims.by_procrastinate, peer_url, workers)
        yield beside(f"claims of one job, {workers} process(es)", ours, theirs, "claims/s")


def compare_jobs(server: Server, folder: Path) -> Iterator[Figure]:
    """Whole jobs a second, by both, in turn."""
    for workers in WORKERS:
        ours = batchgen_rate(server, workers)
        theirs = procrastinate_rate(server, workers) if find_spec(PEER) else None
        yield beside(f"whole jobs, {workers} process(es), an instant service", ours, theirs, "jobs/s")


def beside(what: str, ours: float, theirs: float | None, unit: str) -> Figure:
    bound = f"none; {PEER}: {theirs:,.0f} {unit}, {ours / theirs:.2f} × of it" if theirs else f"{PEER} is not installed"
    return Figure(what, f"{ours:,.0f} {unit}", bound)


def enrolled(server: Server, path: Path) -> str:
    """The URL of a new job table with the jobs of a manifest."""
    url, manifest = server.create(), read(path)
    with Database(url) as database:
        database.write_now(sync.sync_manifest, batch_of(manifest), manifest.jobs, clock.utcnow())
    return url


def batchgen_rate(server: Server, workers: int) -> float:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifest = write_manifest(folder / "many.yaml", JOBS)
        url = enrolled(server, manifest)
        with simulator_process(folder, "--instant", "--speed", str(SPEED)) as service:
            environment = {**service.environment, "BATCHGEN_DB": url}
            run_together(workers, environment, "-m", "batchgen", "run", str(manifest))
            return middle_rate(service.ledger)


def procrastinate_rate(server: Server, workers: int) -> float:
    from tests.benchmarks.peers import procrastinate_postgres

    with tempfile.TemporaryDirectory() as name:
        url = server.create()
        procrastinate_postgres.enroll(url, JOBS)
        with simulator_process(Path(name), "--instant", "--speed", str(SPEED)) as service:
            run_together(workers, {}, "-m", procrastinate_postgres.__name__, url, service.base_url)
            return middle_rate(service.ledger)


def run_together(workers: int, environment: dict[str, str], *arguments: str) -> None:
    """Run so many processes of a program at once, to their end. One that fails ends the benchmark with its output."""
    with ExitStack() as stack:
        running = [stack.enter_context(python_process(*arguments, **environment)) for _ in range(workers)]
        for process, output in running:
            if process.wait():
                output.seek(0)
                sys.exit(f"{' '.join(arguments)} ended with {process.returncode}\n{output.read().decode()}")


def middle_rate(ledger_path: Path) -> float:
    """Jobs a second between the first and the last quarter of the creates: without starts and ends of processes."""
    ledger = Ledger(ledger_path)
    times = [datetime.fromisoformat(generation.created_at).timestamp() for generation in ledger.accepted()]
    ledger.close()
    assert len(times) == JOBS, f"{len(times)} generations for {JOBS} jobs"
    first, last = JOBS // 4, 3 * JOBS // 4
    return (last - first) / (times[last] - times[first])


def compare_rows(server: Server) -> Iterator[Figure]:
    """The statements that a run repeats, in a large table and in a small one."""
    large, small = server.create(), server.create()
    for url, rows in ((large, LARGE), (small, SMALL)):
        million.fill(url, rows)
    with Database(large) as big, Database(small) as little:
        for what, names in million.NAMES.items():
            slow, quick = million.beside(big, little, names)
            is_bounded = names != million.SUMMARY
            bound = f"≤ {ROWS_BOUND} × of that at" if is_bounded else "at"
            yield Figure(
                f"{what}, at {LARGE:,} jobs and {5 * LARGE:,} events",
                f"{slow * 1000:.1f} ms, {slow / quick:.2f} ×",
                f"{bound} {SMALL:,} jobs ({quick * 1000:.1f} ms)",
                slow <= ROWS_BOUND * quick if is_bounded else None,
            )


def enrolment(server: Server, folder: Path) -> Figure:
    """The time from the start of a run to its first create request, with new jobs and a slow connection."""
    manifest = scale.write_manifest(folder / "far.yaml")
    seconds: Sequence[float]
    with TcpProxy(server.port, DELAY_SECONDS / 2, DELAY_SECONDS / 2) as proxy:
        urls = [make_url(server.create()).set(port=proxy.port) for _ in range(ROUNDS)]
        places = [url.render_as_string(hide_password=False) for url in urls]
        seconds = [run_to_first_request(manifest, BATCHGEN_DB=place).seconds for place in places]
    middle = statistics.median(seconds)
    return Figure(
        f"`batchgen run` of {scale.JOBS:,} new jobs, to the first create request, {DELAY_SECONDS * 1000:.0f} ms away",
        f"{middle:.1f} s",
        f"≤ {ENROLMENT_SECONDS:.0f} s",
        middle <= ENROLMENT_SECONDS,
    )
