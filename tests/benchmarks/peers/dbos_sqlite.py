"""DBOS on SQLite: a workflow a job, of three steps, on a durable queue that runs eight at once.

A step that has ended is not run again. A step that a crash interrupts is, so a create request may be paid for twice.
DBOS has every advantage that we found: a write-ahead log, which it does not set by itself and which is faster here; a
queue polled fifty times a second instead of once; plain functions, which are faster here than its coroutines.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from dbos import DBOS

from tests.benchmarks.peers.job import AT_ONCE, connect, create, download, fetch, run_peer

QUEUE = "videos"
QUEUE_POLL_SECONDS = 0.02
RESULT_POLL_SECONDS = 0.1


def deliver(base_url: str, jobs: int, folder: Path) -> None:
    database = folder / "dbos.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    DBOS(config={"name": "peer", "system_database_url": f"sqlite:///{database}", "log_level": "ERROR"})
    with connect(base_url) as client:

        def deliver_job(number: int) -> None:
            generation_id = DBOS.run_step(None, create, client, number)
            url = DBOS.run_step(None, fetch, client, generation_id)
            DBOS.run_step(None, download, client, url, folder / f"{number}.mp4")

        workflow = DBOS.workflow()(deliver_job)
        DBOS.launch()
        DBOS.register_queue(QUEUE, worker_concurrency=AT_ONCE, polling_interval_sec=QUEUE_POLL_SECONDS)
        handles = [DBOS.enqueue_workflow(QUEUE, workflow, number) for number in range(jobs)]
        for handle in handles:
            handle.get_result(polling_interval_sec=RESULT_POLL_SECONDS)
        DBOS.destroy()


if __name__ == "__main__":
    run_peer(deliver)
