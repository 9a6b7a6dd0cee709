"""A client for the tests of the simulator: its calls go over real sockets."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2 as httpx

from batchgen.simulator.server import serve
from batchgen.simulator.service import Simulation

UNIVERSAL = "/v2/video/generations"
KLING = "/v2/generate/video/kling/generation"
STANDARD = "kling-video/v2.1/standard/image-to-video"
MASTER = "klingai/v2.1-master-image-to-video"
VERIFY = ssl.create_default_context()  # shared: a client takes longer to make its own than to talk
TOKEN = "test-token"
CONTROL = f"/_simulator/{TOKEN}"
KEY = {"Authorization": "Bearer a-key"}
INSTANT_SPEED = 1e9  # a generation has finished when its id arrives


def body(prompt: str = "Mona Lisa puts on glasses.", **params: Any) -> dict[str, Any]:
    return {"model": STANDARD, "prompt": prompt, "image_url": "https://example.com/mona.jpg", "duration": 5, **params}


@asynccontextmanager
async def simulated(**settings: Any) -> AsyncIterator[Client]:
    """A client of a new simulation, whose generations end at once with small clips unless `settings` say otherwise."""
    async with (
        serve(Simulation(**{"speed": INSTANT_SPEED, "instant": True, "control_token": TOKEN, **settings})) as base_url,
        client_of(base_url) as client,
    ):
        yield client


class Client(httpx.AsyncClient):
    control = CONTROL
    """The address of the simulator's controls."""


def client_of(base_url: str, control: str = CONTROL) -> Client:
    client = Client(base_url=base_url, headers=KEY, trust_env=False, verify=VERIFY, timeout=10)
    client.control = control
    return client


async def create(client: httpx.AsyncClient, path: str = UNIVERSAL, prompt: str = "a", **params: Any) -> str:
    response = await client.post(path, json=body(prompt, **params))
    assert response.status_code == (201 if path == UNIVERSAL else 200), response.text
    generation_id: str = response.json()["id"]
    return generation_id


async def fetch(client: httpx.AsyncClient, generation_id: str, path: str = UNIVERSAL) -> httpx.Response:
    return await client.get(path, params={"generation_id": generation_id})


async def finish(client: httpx.AsyncClient, generation_id: str, path: str = UNIVERSAL) -> dict[str, Any]:
    """Fetch until the generation has ended, and return the last answer."""
    while True:
        generation: dict[str, Any] = (await fetch(client, generation_id, path)).json()
        if generation["status"] in ("completed", "error"):
            return generation
        await asyncio.sleep(0.01)


async def set_faults(client: Client, faults: dict[str, Any]) -> httpx.Response:
    return await client.put(f"{client.control}/faults", json=faults)


async def ledger(client: Client) -> dict[str, Any]:
    content: dict[str, Any] = (await client.get(f"{client.control}/ledger")).json()
    return content


async def accepted(client: Client) -> list[dict[str, Any]]:
    """The generations in the ledger, oldest first."""
    generations: list[dict[str, Any]] = (await ledger(client))["accepted"]
    return generations


async def wait_for_acceptance(client: Client) -> None:
    """Wait until the ledger has a generation, whether its create was answered or not."""
    while True:
        if await accepted(client):
            return
        await asyncio.sleep(0.01)


async def video_url(client: httpx.AsyncClient, prompt: str = "a") -> str:
    """The URL of a new video."""
    url: str = (await finish(client, await create(client, prompt=prompt)))["video"]["url"]
    return url


async def download(url: str, **headers: str) -> httpx.Response:
    """A request without the API key, as a download must be."""
    async with httpx.AsyncClient(trust_env=False, verify=VERIFY, timeout=10) as client:
        return await client.get(url, headers={name.replace("_", "-"): value for name, value in headers.items()})
