"""The simulated service on a socket: inside a running event loop, or as a process of its own."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from uvicorn.config import Config
from uvicorn.server import ServerState

from batchgen.errors import UsageError
from batchgen.simulator.app import application
from batchgen.simulator.connection import Connection
from batchgen.simulator.simulation import Simulation
from batchgen.simulator.studio import Studio

TRAIL_SECONDS = 0.1  # how long a request may be missing from the ledger's trail


@asynccontextmanager
async def serve(simulation: Simulation, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
    """Serve `simulation` in the running event loop; the value is its base URL. Port 0 takes a free one.

    Leaving ends it at once: open connections, stalled ones too, are cut. Signals are left alone. Raises `UsageError`
    where the address cannot be had, `StorageError` where the ledger cannot be used.
    """
    service = Studio(simulation)
    try:
        config = Config(
            application(service),
            http=Connection,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="critical",
            access_log=False,
            proxy_headers=False,
            timeout_keep_alive=75,
        )
        config.load()
        state = ServerState()
        loop = asyncio.get_running_loop()
        try:
            server = await loop.create_server(lambda: Connection(config, state, {}, loop), host, port, backlog=2048)
        except OSError as error:
            raise UsageError(f"the simulator cannot listen on {host}:{port}: {error.strerror or error}") from error
        writer = asyncio.create_task(_write_trail(service))
        try:
            name = f"[{host}]" if ":" in host else host
            yield f"http://{name}:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            writer.cancel()
            await _end(state)
            await server.wait_closed()
    finally:
        service.close()


async def _end(state: ServerState) -> None:
    """Cut every connection, and see every request out."""
    for each in list(state.connections):
        assert isinstance(each, Connection)
        each.transport.abort()
    tasks = list(state.tasks)
    await asyncio.sleep(0)  # lets the stalled ones notice that their client is gone
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _write_trail(service: Studio) -> None:
    while True:
        await asyncio.sleep(TRAIL_SECONDS)
        service.ledger.flush()


def run_forever(simulation: Simulation, host: str, port: int, on_ready: Callable[[str], None]) -> None:
    """Serve until Ctrl-C or SIGTERM. Prints nothing; `on_ready` is given the base URL once calls are answered."""
    asyncio.run(_until_stopped(simulation, host, port, on_ready))


async def _until_stopped(simulation: Simulation, host: str, port: int, on_ready: Callable[[str], None]) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError):  # Windows: Ctrl-C arrives as KeyboardInterrupt
            loop.add_signal_handler(number, stopped.set)
    async with serve(simulation, host, port) as base_url:
        on_ready(base_url)
        await stopped.wait()
