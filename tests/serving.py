"""The simulated service inside the test's own process, for settings that its command line does not have."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

from batchgen.simulator.server import serve
from batchgen.simulator.service import Simulation


@contextmanager
def served(simulation: Simulation) -> Iterator[dict[str, str]]:
    """Serve `simulation` on a thread; the value is the environment that leads batchgen to it."""
    ready, over = Event(), Event()
    addresses: list[str] = []

    async def run() -> None:
        async with serve(simulation) as base_url:
            addresses.append(base_url)
            ready.set()
            await asyncio.to_thread(over.wait)

    thread = Thread(target=lambda: asyncio.run(run()), daemon=True)
    thread.start()
    try:
        assert ready.wait(10)
        yield {"AIMLAPI_BASE_URL": addresses[0], "AIMLAPI_API_KEY": "test-key-never-to-be-seen"}
    finally:
        over.set()
        thread.join(10)
