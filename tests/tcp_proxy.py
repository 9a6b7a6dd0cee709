"""A TCP proxy on a thread: it forwards bytes late, holds them back like a lost network, and cuts connections."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress

from tests.threaded_server import ThreadedServer

LINGER_0_SECONDS = struct.pack("ii", 1, 0)
"""Of SO_LINGER: close with a reset."""
CHUNK_BYTES = 65_536
CHUNKS_ON_THE_WAY = 1_000
"""Bounds the bytes of one direction that are delayed: a sender that is faster waits, as for a full window of TCP."""


class TcpProxy(ThreadedServer):
    """Forwards connections from a free port of the loopback to `port`.

    `request_delay` and `reply_delay` are seconds that each byte travels to the server and back; bytes on the way do not
    wait for one another, so a delay costs no throughput.
    """

    def __init__(self, port: int, request_delay: float = 0.0, reply_delay: float = 0.0) -> None:
        super().__init__()
        self.target = port
        self.request_delay, self.reply_delay = request_delay, reply_delay
        self.is_open = asyncio.Event()
        """Cleared while nothing is forwarded."""
        self.is_open.set()
        self.writers: set[asyncio.StreamWriter] = set()

    def hold(self) -> None:
        """Forward nothing until `release`. Both sides see a peer that is silent, not one that has gone."""
        self.loop.call_soon_threadsafe(self.is_open.clear)

    def release(self) -> None:
        """Forward what was held back, and what follows."""
        self.loop.call_soon_threadsafe(self.is_open.set)

    def cut(self) -> None:
        """Reset every connection."""
        self.loop.call_soon_threadsafe(self.abort)

    def abort(self) -> None:
        for writer in list(self.writers):
            with suppress(OSError):  # it is closed already
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_0_SECONDS)
            writer.transport.abort()

    async def close(self) -> None:
        self.abort()
        await super().close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of a client, until either side ends it."""
        self.writers.add(writer)
        server_writer = None
        try:
            await self.is_open.wait()
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self.target)
            self.writers.add(server_writer)
            async with asyncio.TaskGroup() as directions:
                directions.create_task(self.forward(reader, server_writer, is_request=True))
                directions.create_task(self.forward(server_reader, writer, is_request=False))
        except* (OSError, asyncio.CancelledError):
            pass  # one side is gone, or the proxy is closed; asyncio logs a connection that ends as cancelled
        finally:
            for end in filter(None, (writer, server_writer)):
                self.writers.discard(end)
                end.transport.abort()

    async def forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_request: bool) -> None:
        """One direction of a connection, until its sender ends it."""
        chunks: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(CHUNKS_ON_THE_WAY)
        deliver = asyncio.create_task(self.deliver(chunks, writer))
        try:
            while not deliver.done():
                chunk = await reader.read(CHUNK_BYTES)
                delay = self.request_delay if is_request else self.reply_delay
                await chunks.put((self.loop.time() + delay, chunk))
                if not chunk:
                    break
            await deliver
        finally:
            deliver.cancel()
            await asyncio.wait([deliver])

    async def deliver(self, chunks: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        """Write each chunk when its time has come. An empty one is the end."""
        while True:
            due, chunk = await chunks.get()
            await asyncio.sleep(max(0.0, due - self.loop.time()))
            await self.is_open.wait()
            if not chunk:
                with suppress(OSError, RuntimeError):
                    writer.write_eof()
                return
            writer.write(chunk)
            await writer.drain()
