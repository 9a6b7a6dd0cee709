"""What the peers share: the three requests of a job, made synchronously, and the main program of a peer."""

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
SPEED = 100_000
"""Of the simulated service: a generation takes two milliseconds."""
POLL_SECONDS = 10 / SPEED
"""The ten seconds of the documented example, at that speed."""


def connect(base_url: str) -> httpx.Client:
    """A client for as many threads as there are jobs at once."""
    limits = httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=AT_ONCE)
    return httpx.Client(base_url=base_url, limits=limits, headers=HEADERS, timeout=30)


def create_body(number: int) -> dict[str, str]:
    """The body of a create request."""
    return {
        "model": "kling-video/v2.1/standard/image-to-video",
        "prompt": f"number {number}",
        "image_url": "https://example.com/a.jpg",
    }


def create(client: httpx.Client, number: int) -> str:
    """Send a create request; the id of the generation."""
    return str(client.post(PATH, json=create_body(number)).raise_for_status().json()["id"])


def fetch(client: httpx.Client, generation_id: str) -> str:
    """Poll a generation until it has completed; the URL of its video."""
    while True:
        answer = client.get(PATH, params={"generation_id": generation_id}).raise_for_status().json()
        if answer["status"] == "completed":
            return str(answer["video"]["url"])
        time.sleep(POLL_SECONDS)


def download(client: httpx.Client, url: str, path: Path) -> None:
    path.write_bytes(client.get(url).raise_for_status().content)


def run_peer(deliver: Callable[[str, int, Path], object]) -> None:
    """Deliver the jobs that the command line names, and print the seconds it took."""
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
