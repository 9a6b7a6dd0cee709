"""A server on a loopback socket that records its requests and sends scripted answers byte for byte."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.listening import listening, reset


@dataclass(frozen=True)
class Request:
    method: str
    target: str
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.target).query)


@dataclass(frozen=True)
class Reset:
    """Send `first`, then tear the connection down with an RST."""

    first: bytes = b""


@dataclass(frozen=True)
class Drip:
    """Send the pieces one by one, each in a packet of its own."""

    pieces: Sequence[bytes]


HANG = object()
"""Never answer."""

Answer = bytes | Reset | Drip | object
Script = Callable[[Request], Answer]


def answer(status: int = 200, body: Any = b"", headers: Mapping[str, str | None] | None = None) -> bytes:
    """An HTTP answer that ends its connection. Other bodies than bytes are sent as JSON, headers of None not at all."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    reason = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "Odd"
    lines: dict[str, str | None] = {"Content-Length": str(len(content)), "Connection": "close", **(headers or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value is not None)
    return f"HTTP/1.1 {status} {reason}\r\n{head}\r\n".encode() + content


@dataclass
class Wire:
    """A running server, with its `requests` in the order of their arrival."""

    base_url: str = ""
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def came(self, number: int) -> None:
        """Wait until `number` requests have arrived."""
        async with self.changed:
            await self.changed.wait_for(lambda: len(self.requests) >= number)


async def read_request(reader: asyncio.StreamReader) -> Request:
    start = await reader.readexactly(1)
    if start == b"\x16":
        raise ConnectionError("a TLS handshake, to which there is no answer here")
    head = (start + await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.strip().split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(method, target, headers, body)


@asynccontextmanager
async def serving(*script: Answer | Script) -> AsyncIterator[Wire]:
    """Answer the first request with the first of `script`, and so on; the last one answers all that follow."""
    wire = Wire()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire.connections += 1
        request = await read_request(reader)
        step = script[min(len(wire.requests), len(script) - 1)]
        wire.requests.append(request)
        async with wire.changed:
            wire.changed.notify_all()
        reply = step(request) if callable(step) else step
        if reply is HANG:
            await asyncio.Event().wait()
        elif isinstance(reply, Reset):
            writer.write(reply.first)
            await writer.drain()
            reset(writer)
        elif isinstance(reply, Drip):
            writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for piece in reply.pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.005)  # a packet of its own
        else:
            assert isinstance(reply, bytes)
            writer.write(reply)
            await writer.drain()

    async with listening(handle) as port:
        wire.base_url = f"http://127.0.0.1:{port}"
        yield wire


def closed_port() -> int:
    """A port on loopback where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
