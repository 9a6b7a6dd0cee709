"""DBOS on SQLite: a workflow a job, of three steps, on a durable queue that runs eight at once.

A step that has ended is not run again; one that a crash interrupted is, so a create request may be paid for twice.
It has every advantage that was found: a write-ahead log, which DBOS does not set by itself and which is faster here;
a queue looked at fifty times a second instead of once; plain functions, which are faster here than its coroutines.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from dbos import DBOS

from tests.benchmarks.peers.job import AT_ONCE, compete, connect, create, download, fetch

QUEUE = "videos"
QUEUE_SECONDS = 0.02
LOOK_SECONDS = 0.1


def deliver(base_url: str, jobs: int, folder: Path) -> None:
    database = folder / "dbos.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    DBOS(config={"name": "peer", "system_database_url": f"sqlite:///{database}", "log_level": "ERROR"})
    with connect(base_url) as client:

        def work(number: int) -> None:
            generation_id = DBOS.run_step(None, create, client, number)
            address = DBOS.run_step(None, fetch, client, generation_id)
            DBOS.run_step(None, download, client, address, folder / f"{number}.mp4")

        workflow = DBOS.workflow()(work)
        DBOS.launch()
        DBOS.register_queue(QUEUE, worker_concurrency=AT_ONCE, polling_interval_sec=QUEUE_SECONDS)
        handles = [DBOS.enqueue_workflow(QUEUE, workflow, number) for number in range(jobs)]
        for handle in handles:
            handle.get_result(polling_interval_sec=LOOK_SECONDS)
        DBOS.destroy()


if __name__ == "__main__":
    compete(deliver)
