"""TCP connections that can be cut: uvicorn's HTTP/1.1 protocol, which hands itself to the application."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any

from starlette.types import Receive, Scope
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, for 0 s: close with RST in place of FIN


class Connection(H11Protocol):
    """One client's connection, found by the application at `scope["state"]["connection"]`."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, {**app_state, "connection": self}, _loop)

    def reset(self) -> None:
        """Break off with a TCP reset; whatever is still to be written is lost."""
        found = self.transport.get_extra_info("socket")
        if found is not None:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()

    def cut(self, last: bytes = b"") -> None:
        """Send exactly `last`, then end the stream: the client reads all of it, and then the end."""
        self.transport.write(last)
        self.transport.close()


def connection(scope: Scope) -> Connection:
    """The connection a request came by."""
    found = scope["state"]["connection"]
    assert isinstance(found, Connection)
    return found


async def gone(receive: Receive) -> None:
    """Wait until the client, or the server, has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass
