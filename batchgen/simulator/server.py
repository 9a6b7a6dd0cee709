"""The simulated service on a socket: inside a running event loop, or as a process of its own."""

import asyncio
import signal
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing, suppress

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from batchgen.errors import UsageError
from batchgen.simulator import aimlapi, file_server
from batchgen.simulator.service import SimulatedService, Simulation

LINGER_0_SECONDS = struct.pack("ii", 1, 0)  # SO_LINGER: close with RST instead of FIN


class ClientConnection(H11Protocol):
    """One client's connection. The application finds it at `scope["state"]["connection"]`."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.app_state = {**self.app_state, "connection": self}
        super().connection_made(transport)

    def reset(self) -> None:
        """End the connection with a TCP reset; what is not yet written is lost."""
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_0_SECONDS)
        self.transport.abort()

    def cut(self, last: bytes = b"") -> None:
        """Send exactly `last` and then end the stream: the client reads all of it, and then the end."""
        self.transport.write(last)
        self.transport.close()


def application(service: SimulatedService) -> Starlette:
    """The ASGI application: the API of a service, the file server, and control endpoints for tests."""
    control = control_url("", service.simulation)
    app = Starlette(
        routes=[
            *aimlapi.ROUTES,
            *file_server.ROUTES,
            Route(f"{control}/faults", put_faults, methods=["PUT"]),
            Route(f"{control}/ledger", get_ledger),
        ],
        exception_handlers={HTTPException: aimlapi.error_response},
        debug=True,  # a defect of the simulator is answered with its traceback
    )
    app.state.service = service
    return app


def control_url(base_url: str, simulation: Simulation) -> str:
    """The address of the control endpoints, for whoever started the simulator and nobody else."""
    return f"{base_url}/_simulator/{simulation.control_token}"


async def put_faults(request: Request) -> Response:
    """Replace the faults in force by those of the body. The answer tells how often each had happened."""
    service: SimulatedService = request.app.state.service
    fired = service.faults.fired
    try:
        service.faults.replace(await request.json())
    except UsageError as error:
        return JSONResponse({"message": str(error)}, 400)
    return JSONResponse({"fired": fired})


async def get_ledger(request: Request) -> Response:
    """What was accepted, what of it more than once, and where the API key leaked."""
    service: SimulatedService = request.app.state.service
    ledger, accepted = service.ledger, [vars(generation) for generation in service.ledger.accepted()]
    return JSONResponse({"accepted": accepted, "duplicates": ledger.duplicates(), "key_leaks": ledger.key_leaks()})


@asynccontextmanager
async def serve(simulation: Simulation, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
    """Serve `simulation` in the running event loop, and yield its base URL. Port 0 takes a free port.

    Leaving the context cuts all open connections at once. Signals are left alone. Raises `UsageError` where the
    address is not available, `StorageError` where the ledger cannot be used.
    """
    with closing(SimulatedService(simulation)) as service:
        config = Config(
            application(service),
            http=ClientConnection,
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
            server = await loop.create_server(
                lambda: ClientConnection(config, state, {}, loop), host, port, backlog=2048
            )
        except OSError as error:
            raise UsageError(f"the simulator cannot listen on {host}:{port}: {error.strerror or error}") from error
        try:
            name = f"[{host}]" if ":" in host else host
            yield f"http://{name}:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            for connection in list(state.connections):
                connection.transport.abort()
            await asyncio.sleep(0)  # lets stalled requests see that their client is gone
            tasks = list(state.tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await server.wait_closed()


def run_forever(simulation: Simulation, host: str, port: int, on_ready: Callable[[str], object]) -> None:
    """Serve until Ctrl-C or SIGTERM. Calls `on_ready` with the base URL when requests are answered; prints nothing."""

    async def serve_until_stopped() -> None:
        stopped = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            with suppress(NotImplementedError):  # on Windows, Ctrl-C arrives as KeyboardInterrupt
                asyncio.get_running_loop().add_signal_handler(number, stopped.set)
        async with serve(simulation, host, port) as base_url:
            on_ready(base_url)
            await stopped.wait()

    asyncio.run(serve_until_stopped())
