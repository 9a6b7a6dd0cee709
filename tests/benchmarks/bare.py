"""The same three requests a job with no table at all: what httpx and asyncio alone can do. Arguments: BASE_URL JOBS."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path

import httpx

AT_ONCE = 8
PATH = "/v2/video/generations"
MODEL = "kling-video/v2.1/standard/image-to-video"


async def fetch_all(base_url: str, number: int, folder: Path) -> None:
    limits = httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=AT_ONCE)
    waiting = iter(range(number))
    async with httpx.AsyncClient(limits=limits, headers={"Authorization": "Bearer any"}, timeout=30) as client:

        async def work() -> None:
            for each in waiting:
                body = {"model": MODEL, "prompt": f"number {each}", "image_url": "https://example.com/a.jpg"}
                made = (await client.post(base_url + PATH, json=body)).json()
                while True:
                    told = (await client.get(base_url + PATH, params={"generation_id": made["id"]})).json()
                    if told["status"] == "completed":
                        break
                video = await client.get(told["video"]["url"])
                (folder / f"{each}.mp4").write_bytes(video.content)

        await asyncio.gather(*(work() for _ in range(AT_ONCE)))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        began = time.perf_counter()
        asyncio.run(fetch_all(sys.argv[1], int(sys.argv[2]), Path(scratch)))
        print(time.perf_counter() - began)
