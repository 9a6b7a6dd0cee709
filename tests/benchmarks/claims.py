"""Claims of one job a transaction until none is left, by several processes at once. Run as a module for one of them."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from datetime import timedelta

from sqlalchemy import Connection

from batchgen import clock
from batchgen.jobtable import submission
from batchgen.jobtable.database import Database
from tests.processes import gather

BATCH = 1
SCRIPT = "import sys; from tests.benchmarks import claims; claims.{}(sys.argv[1])"


def claims_per_second(contestant: Callable[[str], None], url: str, workers: int) -> float:
    """The rate at which so many processes claim all jobs of a database, without their start."""
    outputs = [text.split() for text in gather(SCRIPT.format(contestant.__name__), [url] * workers)]
    began = min(float(began) for began, _, _ in outputs)
    ended = max(float(ended) for _, ended, _ in outputs)
    return sum(int(number) for _, _, number in outputs) / (ended - began)


def start() -> float:
    """Wait until every process is ready; the time."""
    print("ready", flush=True)
    sys.stdin.readline()
    return time.time()


def finish(began: float, number: int) -> None:
    print(began, time.time(), number)


def by_batchgen(url: str) -> None:
    """Commit the intent of one job after the other, as `batchgen run` does before it sends them."""
    with Database(url) as database:
        began, number = start(), 0
        while database.write_now(claim_one):
            number += 1
        finish(began, number)


def claim_one(connection: Connection) -> int:
    now = clock.utcnow()
    ready = submission.ready(connection, BATCH, 1)
    until, sender = now + timedelta(minutes=5), submission.Sender("run", "aimlapi", "a")
    return len(submission.intend(connection, BATCH, sender, now, until, ready))


def by_procrastinate(url: str) -> None:
    """Fetch one job after the other, as a worker of procrastinate does before it runs them."""
    from tests.benchmarks.peers.procrastinate_postgres import make_app

    async def claim_all() -> None:
        app = make_app(url)
        async with app.open_async():
            worker = await app.job_manager.register_worker()
            began, number = start(), 0
            while await app.job_manager.fetch_job(None, worker):
                number += 1
            finish(began, number)

    asyncio.run(claim_all())
