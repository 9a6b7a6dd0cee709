"""One HTTP/1.1 connection. What has a grammar is h11's to read; a body whose length is told is handed on as it came.

Times in seconds. Raises httpcore's errors, which tell connecting from sending and receiving.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import suppress
from typing import cast

import h11
import httpcore

from batchgen.files.buffers import Chunk, give_back
from batchgen.services.network import Network, Stream

HEAD_BYTES_MOST = 100 << 10
HEAD_BYTES_USUAL = 4 << 10
HEAD_END = b"\r\n\r\n"
BODILESS = frozenset({204, 304})  # whatever length they tell


class Connection:
    """To one origin, opened by its first request; one GET or POST at a time."""

    def __init__(self, origin: httpcore.Origin, trusted: ssl.SSLContext, keep_seconds: float) -> None:
        self._origin = origin
        self._trusted = trusted
        self._keep_seconds = keep_seconds
        self._stream: Stream | None = None
        self._exchange: Exchange | None = None
        """The last."""

    @property
    def is_kept(self) -> bool:
        """Whether it may take another request. One that the server has closed, or is about to, would lose it."""
        if not self._stream or not self._exchange or self._exchange.free_since is None:
            return False
        idle = asyncio.get_running_loop().time() - self._exchange.free_since
        return idle < self._keep_seconds and not self._stream.get_extra_info("is_readable")

    async def handle_async_request(self, request: httpcore.Request) -> httpcore.Response:
        """The answer, whose body is still to come. Unless that is read to its end the connection is not kept."""
        within = request.extensions["timeout"]
        stream = self._stream or await self._open(within["connect"])
        self._exchange = exchange = Exchange(stream, within["read"])
        # A server may refuse a request before it has taken all of it: then what it says is to be read.
        with suppress(httpcore.WriteError):
            await stream.write(await exchange.told(request), within["write"])
        head = await exchange.head()
        return httpcore.Response(
            head.status_code,
            headers=head.headers.raw_items(),
            content=cast(AsyncIterator[bytes], exchange.body()),
            extensions={
                "http_version": b"HTTP/" + head.http_version,
                "reason_phrase": head.reason,
                "network_stream": stream,
            },
        )

    async def _open(self, seconds: float) -> Stream:
        host = self._origin.host.decode("ascii")
        self._stream = stream = await Network().connect_tcp(host, self._origin.port, seconds)
        return await stream.start_tls(self._trusted, host, seconds) if self._origin.scheme == b"https" else stream

    async def aclose(self) -> None:
        """Close it, whatever it is in the middle of."""
        if self._stream:
            await self._stream.aclose()


class Exchange:
    """One request and its answer."""

    def __init__(self, stream: Stream, seconds: float) -> None:
        self._stream = stream
        self._seconds = seconds
        """How long the other end may say nothing."""
        self._machine = h11.Connection(h11.CLIENT, HEAD_BYTES_MOST)
        self._rest: Chunk = b""
        """What came with the head, and is no part of it."""
        self._length: int | None = None
        """Of the body; None where its end is told in another way."""
        self.free_since: float | None = None
        """When the whole answer had come, and nothing after it, if neither end has said that it is the last."""

    async def told(self, request: httpcore.Request) -> bytes:
        """The request as it is sent, in one piece. Raises `LocalProtocolError` for a header that is none."""
        assert isinstance(request.stream, AsyncIterable)
        try:
            head = h11.Request(method=request.method, target=request.url.target, headers=request.headers)
            parts = [self._machine.send(head)]
        except h11.LocalProtocolError as error:
            raise httpcore.LocalProtocolError(error) from error
        parts += [self._machine.send(h11.Data(chunk)) async for chunk in request.stream]
        parts.append(self._machine.send(h11.EndOfMessage()))
        return b"".join(filter(None, parts))

    async def head(self) -> h11.Response:
        """Raises `ReadTimeout`, `ReadError`, `RemoteProtocolError`."""
        while not isinstance(head := await self._next(), h11.Response):
            pass  # 100, 102, 103: the answer is still to come
        named = dict(head.headers)
        if b"content-length" in named and b"transfer-encoding" not in named and head.status_code not in BODILESS:
            self._length = int(named[b"content-length"])
        return head

    def body(self) -> AsyncIterator[Chunk]:
        """What comes is the caller's, who may give its buffer back. Raises like `head`."""
        return self._framed() if self._length is None else self._counted(self._length)

    async def _counted(self, length: int) -> AsyncIterator[Chunk]:
        came, chunk = 0, cast(Chunk, self._machine.trailing_data[0])
        while True:
            came += len(chunk)
            if came > length:
                chunk = chunk[: length - came]
            yield chunk
            if came >= length:
                break
            chunk = await self._receive()
            if not chunk:
                told = f"received {came} bytes, expected {length}"
                raise httpcore.RemoteProtocolError(f"the server ended the connection within the body ({told})")
        self._end(came > length)

    async def _framed(self) -> AsyncIterator[Chunk]:
        while isinstance(event := await self._next(), h11.Data):
            yield bytes(event.data)
        self._end(bool(self._machine.trailing_data[0] or self._rest))

    def _end(self, more: bool) -> None:
        if self._machine.our_state is h11.DONE and not more:
            self.free_since = asyncio.get_running_loop().time()

    async def _next(self) -> object:
        """The next event that h11 makes of what comes."""
        while (event := self._event()) is h11.NEED_DATA:
            chunk = await self._receive()
            if self._machine.their_state is h11.SEND_RESPONSE:
                if not chunk:
                    raise httpcore.RemoteProtocolError("the server ended the connection without an answer")
                chunk = self._cut(chunk)
            self._machine.receive_data(cast(bytes, chunk))
            give_back(chunk)
        return event

    def _cut(self, chunk: Chunk) -> Chunk:
        """The head, where its end is near; what follows is not for h11 to copy."""
        end = bytes(chunk[:HEAD_BYTES_USUAL]).find(HEAD_END) + len(HEAD_END)
        if end < len(HEAD_END) or end == len(chunk):
            return chunk
        self._rest = chunk[end:]
        return bytes(chunk[:end])

    async def _receive(self) -> Chunk:
        rest, self._rest = self._rest, b""
        return rest or await self._stream.receive(self._seconds)

    def _event(self) -> object:
        try:
            return self._machine.next_event()
        except h11.RemoteProtocolError as error:
            raise httpcore.RemoteProtocolError(error) from error
