"""Answers that never arrive whole, and the TCP connections that they cut: uvicorn's HTTP/1.1 protocol, extended."""

import asyncio
import http
import socket
import struct
from dataclasses import dataclass
from typing import Literal

from starlette.responses import FileResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from batchgen.simulator.faults import Fault

LINGER_0_SECONDS = struct.pack("ii", 1, 0)  # SO_LINGER: close with RST instead of FIN
SLOW_CHUNKS = 20  # of a slow file: enough for a client to be killed in the middle


class Connection(H11Protocol):
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


class Unanswered:
    """Base of ASGI answers that do not arrive whole: the ledger records no status for them."""


@dataclass
class Silence(Unanswered):
    """No byte of an answer: a TCP reset, an end of the connection, or a stall for as long as the client waits."""

    ending: Literal["reset", "close", "stall"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        if self.ending == "reset":
            scope["state"]["connection"].reset()
        elif self.ending == "close":
            scope["state"]["connection"].cut()
        await wait_for_disconnect(receive)


@dataclass
class Truncated(Unanswered):
    """The first `bytes` of an answer that a fault has set, or else a share of it, then the end of the connection.

    With `headers_count` the bytes of the status line and the headers count; without, only those of the body.
    """

    whole: ASGIApp
    fault: Fault
    headers_count: bool

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        head, body = b"", b""

        async def collect(message: Message) -> None:
            nonlocal head, body
            if message["type"] == "http.response.start":
                status = f"HTTP/1.1 {message['status']} {http.HTTPStatus(message['status']).phrase}".encode()
                head = b"\r\n".join([status, *(b": ".join(header) for header in message["headers"]), b"", b""])
            body += message.get("body", b"")

        await self.whole(scope, receive, collect)
        uncounted, counted = (b"", head + body) if self.headers_count else (head, body)
        length = int(self.fault.choice * len(counted)) if self.fault.bytes is None else self.fault.bytes
        scope["state"]["connection"].cut(uncounted + counted[:length])
        await wait_for_disconnect(receive)


async def wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


@dataclass
class Slow:
    """A file whose whole body takes `seconds` real seconds; a range of it takes its share."""

    file: FileResponse
    seconds: float

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_late(message: Message) -> None:
            if message["type"] == "http.response.body":
                await asyncio.sleep(self.seconds / SLOW_CHUNKS)
            await send(message)

        self.file.chunk_size = -(-int(self.file.headers["content-length"]) // SLOW_CHUNKS)
        await self.file(scope, receive, send_late)
