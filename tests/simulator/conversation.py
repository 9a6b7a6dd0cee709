"""What the tests of the simulator say to it, over real sockets."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2 as httpx

from batchgen.simulator import Simulation, serve

UNIVERSAL = "/v2/video/generations"
KLING = "/v2/generate/video/kling/generation"
STANDARD = "kling-video/v2.1/standard/image-to-video"
VERIFY = ssl.create_default_context()  # one for all clients: each would take longer to make its own than to talk
KEY = {"Authorization": "Bearer a-key"}
AT_ONCE = 1e9  # speed at which a generation is finished when its id arrives


def body(prompt: str = "Mona Lisa puts on glasses.", **more: Any) -> dict[str, Any]:
    return {"model": STANDARD, "prompt": prompt, "image_url": "https://example.com/mona.jpg", "duration": 5, **more}


@asynccontextmanager
async def simulated(**settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a simulation of its own; tiny clips at once, unless asked otherwise."""
    async with (
        serve(Simulation(**{"speed": AT_ONCE, "instant": True, **settings})) as base_url,
        httpx.AsyncClient(base_url=base_url, headers=KEY, trust_env=False, verify=VERIFY, timeout=10) as client,
    ):
        yield client


async def create(client: httpx.AsyncClient, path: str = UNIVERSAL, prompt: str = "a", **more: Any) -> str:
    answer = await client.post(path, json=body(prompt, **more))
    assert answer.status_code == (201 if path == UNIVERSAL else 200), answer.text
    generation_id: str = answer.json()["id"]
    return generation_id


async def fetch(client: httpx.AsyncClient, generation_id: str, path: str = UNIVERSAL) -> httpx.Response:
    return await client.get(path, params={"generation_id": generation_id})


async def finish(client: httpx.AsyncClient, generation_id: str, path: str = UNIVERSAL) -> dict[str, Any]:
    """Fetch until the generation has ended."""
    while True:
        told: dict[str, Any] = (await fetch(client, generation_id, path)).json()
        if told["status"] in ("completed", "error"):
            return told
        await asyncio.sleep(0.01)


async def ledger(client: httpx.AsyncClient) -> dict[str, Any]:
    told: dict[str, Any] = (await client.get("/_simulator/ledger", params={"generations": "1"})).json()
    return told


async def one_is_accepted(client: httpx.AsyncClient) -> None:
    """Wait until the service has accepted something, answered or not."""
    while True:
        if (await ledger(client))["accepted"]:
            return
        await asyncio.sleep(0.01)


async def video_url(client: httpx.AsyncClient, prompt: str = "a") -> str:
    """The address of a video that has just been made."""
    url: str = (await finish(client, await create(client, prompt=prompt)))["video"]["url"]
    return url


async def download(url: str, **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False, verify=VERIFY, timeout=10) as stranger:
        return await stranger.get(url, headers={name.replace("_", "-"): value for name, value in headers.items()})
