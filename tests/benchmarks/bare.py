"""The three requests of a job and nothing else: what the HTTP client and asyncio can do. Arguments: BASE_URL JOBS."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx2 as httpx

from tests.benchmarks.peers.job import AT_ONCE, HEADERS, PATH, create_body, run_peer


async def deliver_all(base_url: str, jobs: int, folder: Path) -> None:
    kept = httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=AT_ONCE)
    fresh = httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=0)
    numbers = iter(range(jobs))
    async with (
        httpx.AsyncClient(limits=kept, headers=HEADERS, timeout=30) as client,
        # A paid request never travels on a connection that may be half dead, here as in batchgen.
        httpx.AsyncClient(limits=fresh, headers=HEADERS, timeout=30) as create_client,
    ):

        async def deliver_jobs() -> None:
            for number in numbers:
                created = (await create_client.post(base_url + PATH, json=create_body(number))).json()
                while True:
                    answer = (await client.get(base_url + PATH, params={"generation_id": created["id"]})).json()
                    if answer["status"] == "completed":
                        break
                video = await client.get(answer["video"]["url"])
                (folder / f"{number}.mp4").write_bytes(video.content)

        await asyncio.gather(*(deliver_jobs() for _ in range(AT_ONCE)))


def deliver(base_url: str, jobs: int, folder: Path) -> None:
    asyncio.run(deliver_all(base_url, jobs, folder))


if __name__ == "__main__":
    run_peer(deliver)
