"""huey on SQLite: a task a job, eight worker threads in one process, every commit synced.

A task leaves the queue when it begins, so a crash loses the jobs in the workers.
"""

from __future__ import annotations

from pathlib import Path

from huey import SqliteHuey

from tests.benchmarks.peers.job import AT_ONCE, connect, create, download, fetch, run_peer

RESULT_POLL_SECONDS = 0.1


def deliver(base_url: str, jobs: int, folder: Path) -> None:
    huey = SqliteHuey(filename=str(folder / "huey.db"), fsync=True)
    with connect(base_url) as client:

        def deliver_job(number: int) -> int:
            download(client, fetch(client, create(client, number)), folder / f"{number}.mp4")
            return number  # huey keeps no result that is None, and could not tell when the task has ended

        results = huey.task()(deliver_job).map(range(jobs))
        consumer = huey.create_consumer(workers=AT_ONCE, periodic=False)
        consumer.start()
        # `preserve`: without it each result that is read costs one more commit.
        results.get(blocking=True, max_delay=RESULT_POLL_SECONDS, preserve=True)
        consumer.stop(graceful=True)


if __name__ == "__main__":
    run_peer(deliver)
