"""A proxy on a real socket between a plug-in and its imitated service: it loses, cuts and replaces answers."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

IsCreate = Callable[[str, str], bool]
"""Whether a request, by method and path, is one that costs money."""


@dataclass(frozen=True, slots=True)
class AnswerFault:
    """What happens to one request: whether it reaches the service, and what the client gets instead of the answer."""

    name: str
    arrives: bool
    answer: Callable[[bytes], bytes] = lambda answer: answer
    """From the service's answer, empty where the request did not arrive. An empty result ends the connection."""


class Proxy:
    """Forwards each request on a connection of its own, and keeps it in `requests`."""

    def __init__(self, service_url: str, is_create: IsCreate) -> None:
        self.host, self.port = urlsplit(service_url).hostname, urlsplit(service_url).port
        self.is_create = is_create
        self.base_url = ""
        self.requests: list[bytes] = []
        self.creates = 0
        """How many of them cost money."""
        self.create_fault: AnswerFault | None = None
        """For the next create request."""
        self.other_fault: AnswerFault | None = None
        """For every other request, while it is set."""
        self.on_create: Callable[[str], Awaitable[None]] | None = None
        """Called with "sent" before a create request is forwarded, and with "accepted" before it is answered."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if raw := await read_message(reader):
                writer.write(await self.answer(raw))
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            await close(writer)

    async def answer(self, raw: bytes) -> bytes:
        method, path, _ = raw.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
        self.requests.append(raw)
        is_create, fault = self.is_create(method, path), self.other_fault
        if is_create:
            self.creates += 1
            fault, self.create_fault = self.create_fault, None
        if is_create and self.on_create:
            await self.on_create("sent")
        answer = await self.forward(raw) if not fault or fault.arrives else b""
        if is_create and self.on_create:
            await self.on_create("accepted")
        return fault.answer(answer) if fault else answer

    async def forward(self, raw: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(self.host, self.port)
        head, _, body = raw.partition(b"\r\n\r\n")
        head = re.sub(rb"\r\nconnection:[^\r]*", b"", head, flags=re.IGNORECASE) + b"\r\nConnection: close"
        writer.write(head + b"\r\n\r\n" + body)
        try:
            return await reader.read()
        finally:
            await close(writer)


async def close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


async def read_message(reader: asyncio.StreamReader) -> bytes:
    """One request with its body. Empty where the client sends none."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""
    length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
    return head + (await reader.readexactly(int(length[1])) if length else b"")


@asynccontextmanager
async def proxied(service_url: str, is_create: IsCreate) -> AsyncIterator[Proxy]:
    """A proxy in front of a service; it takes no more connections once the context is left."""
    proxy = Proxy(service_url, is_create)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()


def replaced(status: int, body: str = "", headers: str = "") -> Callable[[bytes], bytes]:
    """An answer in place of the service's own."""
    content = body.encode()
    head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(content)}\r\nConnection: close\r\n{headers}\r\n"
    return lambda _answer: head.encode() + content


def cut(share: float) -> Callable[[bytes], bytes]:
    """The beginning of the answer, always without its last byte."""
    return lambda answer: answer[: min(int(len(answer) * share), len(answer) - 1)]
