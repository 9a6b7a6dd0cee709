"""huey on SQLite: a task a job, eight worker threads in one process, every commit synced.

A task leaves the queue as it is begun, so that a crash loses what was being worked on.
"""

from __future__ import annotations

from pathlib import Path

from huey import SqliteHuey

from tests.benchmarks.peers.job import AT_ONCE, compete, connect, create, download, fetch

LOOK_SECONDS = 0.1


def deliver(base_url: str, jobs: int, folder: Path) -> None:
    huey = SqliteHuey(filename=str(folder / "huey.db"), fsync=True)
    with connect(base_url) as client:

        def work(number: int) -> int:
            download(client, fetch(client, create(client, number)), folder / f"{number}.mp4")
            return number  # huey keeps no result that is None, and could not be asked whether the task is over

        results = huey.task()(work).map(range(jobs))
        consumer = huey.create_consumer(workers=AT_ONCE, periodic=False)
        consumer.start()
        results.get(blocking=True, max_delay=LOOK_SECONDS, preserve=True)  # else each result read is one more commit
        consumer.stop(graceful=True)


if __name__ == "__main__":
    compete(deliver)
