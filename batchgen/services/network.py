"""TCP and TLS, straight on asyncio's transports.

Times in seconds. Raises httpcore's errors, which tell connecting from sending and receiving.
"""

from __future__ import annotations

import asyncio
import select
import socket
import ssl
from collections import deque
from collections.abc import Iterable
from typing import Any

import httpcore

from batchgen.files.buffers import BUFFER_BYTES, Chunk, give_back, put_back, take

HELD_BYTES = 2 << 20  # that came and were not read; then the sender has to wait
SMALL_BYTES = BUFFER_BYTES // 4  # are copied: what waits to be written may be many chunks
PORT_HIGHEST = 65_535
FAMILIES_APART_SECONDS = 0.25  # between tries by IPv6 and IPv4 (RFC 8305)


class Network(httpcore.AsyncNetworkBackend):
    """Opens TCP connections."""

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the library's own word
        local_address: str | None = None,  # noqa: ARG002
        socket_options: Iterable[Any] | None = None,  # noqa: ARG002
    ) -> Stream:
        """Raises `ConnectTimeout`, `ConnectError`; `UnicodeError`, `OverflowError` for an address that is none."""
        if not 0 <= port <= PORT_HIGHEST:
            raise OverflowError(f"there is no port {port}")  # asyncio loses it between two families of addresses
        connecting = asyncio.get_running_loop().create_connection
        try:
            async with asyncio.timeout(timeout):
                _, stream = await connecting(Stream, host, port, happy_eyeballs_delay=FAMILIES_APART_SECONDS)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(error) from error
        except OSError as error:
            raise httpcore.ConnectError(error) from error
        return stream


class Stream(asyncio.BufferedProtocol, httpcore.AsyncNetworkStream):
    """One connection. What comes is kept until it is received."""

    def __init__(self) -> None:
        self._buffer: memoryview | None = None
        """For what comes next; between its being asked for and its being filled."""
        self._came: deque[Chunk] = deque()
        self._size = 0
        """Of what came and was not received."""
        self._over = False
        self._error: Exception | None = None
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        """Whoever waits for something to come, or to leave."""

    # --- what the transport tells ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def get_buffer(self, _sizehint: int) -> memoryview:
        self._buffer = self._buffer or take()
        return self._buffer

    def buffer_updated(self, number: int) -> None:
        assert self._buffer
        chunk = self._buffer[:number]
        if number > SMALL_BYTES:
            self._came.append(chunk)
        else:
            self._came.append(bytes(chunk))
            put_back(self._buffer)
        self._buffer = None
        self._size += number
        if self._size >= HELD_BYTES:
            self._transport.pause_reading()
        wake(self._reader)

    def eof_received(self) -> None:
        self._over = True
        wake(self._reader)

    def connection_lost(self, error: Exception | None) -> None:
        self._over, self._error = True, error
        wake(self._reader)
        wake(self._writer)

    def pause_writing(self) -> None:
        self._writer = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        wake(self._writer)
        self._writer = None

    # --- what is asked of it ---

    async def receive(self, timeout: float | None = None) -> Chunk:  # noqa: ASYNC109
        """What has come, for the caller to keep or to give its buffer back; nothing at the end.

        Raises `ReadTimeout`, `ReadError`.
        """
        if not self._came and not self._over:
            self._reader = asyncio.get_running_loop().create_future()
            try:
                async with asyncio.timeout(timeout):
                    await self._reader
            except TimeoutError as error:
                raise httpcore.ReadTimeout(error) from error
            finally:
                self._reader = None
        if not self._came:
            if self._error:
                raise httpcore.ReadError(self._error) from self._error
            return b""
        chunk = self._came.popleft()
        if self._size >= HELD_BYTES > self._size - len(chunk):
            self._transport.resume_reading()
        self._size -= len(chunk)
        return chunk

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        """A copy of what has come, at most `max_bytes`; nothing at the end. Raises like `receive`."""
        chunk = await self.receive(timeout)
        copy = bytes(chunk)
        give_back(chunk)
        if rest := copy[max_bytes:]:
            self._came.appendleft(rest)
            self._size += len(rest)
        return copy[:max_bytes]

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Raises `WriteTimeout`, `WriteError`."""
        if self._over:
            raise httpcore.WriteError(self._error or "the connection is closed") from self._error
        self._transport.write(buffer)
        if self._writer:
            try:
                async with asyncio.timeout(timeout):
                    await asyncio.shield(self._writer)
            except TimeoutError as error:
                raise httpcore.WriteTimeout(error) from error

    async def aclose(self) -> None:
        self._transport.close()
        # Where the other end does not answer to the end of TLS.
        asyncio.get_running_loop().call_soon(self._transport.abort)

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> Stream:
        """Raises `ConnectTimeout`, `ConnectError`."""
        starting = asyncio.get_running_loop().start_tls
        try:
            async with asyncio.timeout(timeout):
                transport = await starting(self._transport, self, ssl_context, server_hostname=server_hostname)
        except TimeoutError as error:
            self._transport.abort()
            raise httpcore.ConnectTimeout(error) from error
        except OSError as error:
            self._transport.abort()
            raise httpcore.ConnectError(error) from error
        assert transport
        self._transport = transport
        return self

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":  # between two requests: then the server has closed it
            return self._over or bool(self._came) or readable(self._transport.get_extra_info("socket"))
        return self._transport.get_extra_info(info)


def wake(waiting: asyncio.Future[None] | None) -> None:
    if waiting and not waiting.done():
        waiting.set_result(None)


def readable(one: socket.socket) -> bool:
    """Whether something has come that the event loop has not seen yet."""
    if one.fileno() < 0:
        return True
    if not hasattr(select, "poll"):
        return bool(select.select([one], [], [], 0)[0])
    poll = select.poll()
    poll.register(one, select.POLLIN)
    return bool(poll.poll(0))
