"""procrastinate on PostgreSQL: a task a job, eight at once in each process. Arguments: URL BASE_URL.

A job whose worker dies stays in the state `doing` until a task of the user's finds and retries it; its create request
may then be paid for twice.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Any

import httpx2 as httpx
from procrastinate import App, PsycopgConnector

from tests.benchmarks.peers.job import AT_ONCE, HEADERS, PATH, POLL_SECONDS, create_body

TASK = "deliver"


def make_app(url: str) -> App:
    """The application on a database, by an SQLAlchemy URL of psycopg."""
    conninfo = url.replace("postgresql+psycopg://", "postgresql://")
    return App(connector=PsycopgConnector(conninfo=conninfo, max_size=AT_ONCE + 2))


def enroll(url: str, jobs: int) -> None:
    """Create the tables, and defer jobs."""

    async def defer() -> None:
        app = make_app(url)
        async with app.open_async():
            await app.schema_manager.apply_schema_async()
            task = app.configure_task(TASK, allow_unknown=True)
            arguments: list[Any] = [{"number": number} for number in range(jobs)]
            await task.batch_defer_async(*arguments)

    asyncio.run(defer())


async def work(url: str, base_url: str, folder: Path) -> None:
    """Run jobs until none is left."""
    app = make_app(url)
    kept = httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=AT_ONCE)
    async with app.open_async(), httpx.AsyncClient(limits=kept, headers=HEADERS, timeout=30) as client:

        async def deliver(number: int) -> None:
            created = (await client.post(base_url + PATH, json=create_body(number))).raise_for_status().json()
            while True:
                answer = (await client.get(base_url + PATH, params={"generation_id": created["id"]})).json()
                if answer["status"] == "completed":
                    break
                await asyncio.sleep(POLL_SECONDS)
            video = await client.get(answer["video"]["url"])
            (folder / f"{number}.mp4").write_bytes(video.raise_for_status().content)

        app.task(name=TASK)(deliver)
        await app.run_worker_async(wait=False, concurrency=AT_ONCE)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        asyncio.run(work(sys.argv[1], sys.argv[2], Path(name)))
