"""A pooler of PostgreSQL connections in transaction mode, as PgBouncer is one: few sessions for many connections.

A connection has a session from the first message of a transaction to its end. What a session keeps beyond that (its
advisory locks, LISTEN, prepared statements) is seen by whichever connection has it next, or is lost.
The messages are those of "Frontend/Backend Protocol" in PostgreSQL's manual.
"""

from __future__ import annotations

import asyncio
import struct
from contextlib import suppress
from typing import NamedTuple

from tests.threaded_server import ThreadedServer

SSL_REQUEST, GSS_REQUEST, CANCEL_REQUEST = 80877103, 80877104, 80877102
"""In the place of a protocol's version, at the beginning of a connection."""
READY, SYNC, QUERY, TERMINATE = b"Z", b"S", b"Q", b"X"
IDLE = b"I"
"""The status of `READY`: no transaction is open."""
MESSAGES_AHEAD = 1_000
"""How many messages of a client are read before they are forwarded."""


class Session(NamedTuple):
    """A connection to the server, past its greeting."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    greeting: bytes
    """What the server said up to its first `READY`."""


class TransactionPooler(ThreadedServer):
    """Serves a free port of the loopback with at most `size` sessions of the server at `target`, the oldest first."""

    def __init__(self, target: int, size: int = 3) -> None:
        super().__init__()
        self.target = target
        self.free: asyncio.Queue[Session | None] = asyncio.Queue()
        """None is a session that has not been opened yet."""
        for _ in range(size):
            self.free.put_nowait(None)
        self.sessions: list[Session] = []

    async def close(self) -> None:
        await super().close()
        for session in self.sessions:
            session.writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of a client, until it ends."""
        messages: asyncio.Queue[bytes] = asyncio.Queue(MESSAGES_AHEAD)
        reading = None
        with suppress(OSError, EOFError, asyncio.CancelledError):
            startup = await read_startup(reader, writer)
            session = await self.take(startup)
            self.free.put_nowait(session)
            writer.write(session.greeting)
            reading = asyncio.create_task(read_messages(reader, messages))
            while (message := await messages.get())[:1] != TERMINATE:
                session = await self.take(startup)
                if await relay_transaction(message, messages, writer, session):
                    self.free.put_nowait(session)
                else:
                    self.free.put_nowait(None)
                    session.writer.transport.abort()
                    break
        if reading:
            reading.cancel()
        writer.transport.abort()

    async def take(self, startup: bytes) -> Session:
        """A free session; a new one where there may be one more."""
        session = await self.free.get()
        if session is None:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.target)
            writer.write(startup)
            greeting = message = await read_message(reader)
            while message[:1] != READY:
                message = await read_message(reader)
                greeting += message
            session = Session(reader, writer, greeting)
            self.sessions.append(session)
        return session


async def read_startup(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """The first message of a client. Encryption is refused. Raises `EOFError` for a request to cancel."""
    while True:
        head = await reader.readexactly(8)
        length, version = struct.unpack("!II", head)
        if version in (SSL_REQUEST, GSS_REQUEST):
            writer.write(b"N")
            continue
        if version == CANCEL_REQUEST:
            raise EOFError
        return head + await reader.readexactly(length - 8)


async def read_message(reader: asyncio.StreamReader) -> bytes:
    """A whole message: its type, its length and its content. Raises `EOFError`."""
    head = await reader.readexactly(5)
    return head + await reader.readexactly(int.from_bytes(head[1:]) - 4)


async def read_messages(reader: asyncio.StreamReader, messages: asyncio.Queue[bytes]) -> None:
    """Read the messages of a client. The last one is `TERMINATE`, also where the connection just ends."""
    message = b""
    while message[:1] != TERMINATE:
        try:
            message = await read_message(reader)
        except (OSError, EOFError):
            message = TERMINATE
        await messages.put(message)


async def relay_transaction(
    message: bytes, messages: asyncio.Queue[bytes], writer: asyncio.StreamWriter, session: Session
) -> bool:
    """Forward messages until no transaction is open. False: a side has ended within it."""
    awaited = 0
    """Answers that end with `READY`."""

    async def forward_requests() -> None:
        nonlocal awaited, message
        while message[:1] != TERMINATE:
            awaited += message[:1] in (SYNC, QUERY)
            session.writer.write(message)
            await session.writer.drain()
            message = await messages.get()

    requests = asyncio.create_task(forward_requests())
    answer = asyncio.create_task(read_message(session.reader))
    try:
        while True:
            await asyncio.wait([requests, answer], return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                return False
            received = answer.result()
            writer.write(received)
            await writer.drain()
            if received[:1] == READY:
                awaited -= 1
                if not awaited and received[5:] == IDLE:
                    return True
            answer = asyncio.create_task(read_message(session.reader))
    except (OSError, EOFError):
        return False
    finally:
        for task in (requests, answer):
            task.cancel()
        await asyncio.wait([requests, answer])
