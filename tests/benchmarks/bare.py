"""The same three requests a job with no table at all: what httpx and asyncio alone can do. Arguments: BASE_URL JOBS."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx2 as httpx

from tests.benchmarks.peers.job import AT_ONCE, HEADERS, PATH, ask, compete


async def fetch_all(base_url: str, jobs: int, folder: Path) -> None:
    limits = httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=AT_ONCE)
    waiting = iter(range(jobs))
    async with httpx.AsyncClient(limits=limits, headers=HEADERS, timeout=30) as client:

        async def work() -> None:
            for each in waiting:
                made = (await client.post(base_url + PATH, json=ask(each))).json()
                while True:
                    told = (await client.get(base_url + PATH, params={"generation_id": made["id"]})).json()
                    if told["status"] == "completed":
                        break
                video = await client.get(told["video"]["url"])
                (folder / f"{each}.mp4").write_bytes(video.content)

        await asyncio.gather(*(work() for _ in range(AT_ONCE)))


def deliver(base_url: str, jobs: int, folder: Path) -> None:
    asyncio.run(fetch_all(base_url, jobs, folder))


if __name__ == "__main__":
    compete(deliver)
