"""A script in a thread pool: the example of the service's documentation, for eight jobs at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.benchmarks.peers.job import AT_ONCE, connect, create, download, fetch, run_peer


def deliver(base_url: str, jobs: int, folder: Path) -> None:
    with connect(base_url) as client, ThreadPoolExecutor(AT_ONCE) as pool:

        def deliver_job(number: int) -> None:
            download(client, fetch(client, create(client, number)), folder / f"{number}.mp4")

        list(pool.map(deliver_job, range(jobs)))


if __name__ == "__main__":
    run_peer(deliver)
