"""What the peers share: the three requests of a job, made synchronously, and how a process of theirs is run."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx2 as httpx

AT_ONCE = 8
PATH = "/v2/video/generations"
HEADERS = {"Authorization": "Bearer any"}
SPEED = 100_000  # of the simulated service
BETWEEN_LOOKS_SECONDS = 10 / SPEED  # the documented example's ten seconds, at that speed


def connect(base_url: str) -> httpx.Client:
    """A client for as many threads as there are jobs at once."""
    limits = httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=AT_ONCE)
    return httpx.Client(base_url=base_url, limits=limits, headers=HEADERS, timeout=30)


def ask(number: int) -> dict[str, str]:
    """The body of a create request."""
    return {
        "model": "kling-video/v2.1/standard/image-to-video",
        "prompt": f"number {number}",
        "image_url": "https://example.com/a.jpg",
    }


def create(client: httpx.Client, number: int) -> str:
    """The id of a new generation."""
    return str(client.post(PATH, json=ask(number)).raise_for_status().json()["id"])


def fetch(client: httpx.Client, generation_id: str) -> str:
    """The address of its video, once there is one."""
    while True:
        told = client.get(PATH, params={"generation_id": generation_id}).raise_for_status().json()
        if told["status"] == "completed":
            return str(told["video"]["url"])
        time.sleep(BETWEEN_LOOKS_SECONDS)


def download(client: httpx.Client, address: str, path: Path) -> None:
    path.write_bytes(client.get(address).raise_for_status().content)


def compete(deliver: Callable[[str, int, Path], object]) -> None:
    """Deliver the jobs that the process's arguments tell of, and print the seconds it took."""
    base_url, jobs = sys.argv[1], int(sys.argv[2])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        began = time.perf_counter()
        deliver(base_url, jobs, folder)
        seconds = time.perf_counter() - began
        delivered = len(list(folder.glob("*.mp4")))
    if delivered != jobs:
        sys.exit(f"{delivered} of {jobs} jobs were delivered")
    print(seconds)
