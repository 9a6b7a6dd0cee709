"""Answers in all the ways in which HTTP/1.1 lets them end, and what may follow them on the same connection."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import cast

import httpcore
import pytest

from batchgen.files import buffers
from batchgen.services import http
from batchgen.services.connection import Exchange
from batchgen.services.network import Stream
from tests.listening import OK, Handler, ask, head_of, lines, listening

BODY = bytes(range(256)) * 8_000  # more than a buffer holds


@dataclass
class Server:
    """Gives each request the same answer, and counts its connections."""

    answer: bytes
    ends: bool = False
    """Whether it closes the connection after an answer."""
    connections: int = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while True:
            await head_of(reader)
            writer.write(self.answer)
            await writer.drain()
            if self.ends:
                return


def counted(body: bytes, *headers: bytes, first: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return b"\r\n".join([first, *headers, b"Content-Length: %d" % len(body), b"", body])


def chunked(*chunks: bytes) -> bytes:
    body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        pytest.param(OK, b"ok", id="of a told length"),
        pytest.param(counted(BODY), BODY, id="of a told length, and large"),
        pytest.param(counted(b""), b"", id="empty"),
        pytest.param(chunked(BODY[:60_000], BODY[60_000:70_000]), BODY[:70_000], id="in chunks"),
        pytest.param(chunked(), b"", id="in chunks, of which there are none"),
        pytest.param(
            chunked(b"ok").replace(b"\r\n\r\n", b"\r\nContent-Length: 7\r\n\r\n", 1),
            b"ok",
            id="in chunks, and a length",
        ),
        pytest.param(b"HTTP/1.1 204 No Content\r\n\r\n", b"", id="none"),
        pytest.param(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 700\r\n\r\n", b"", id="none, but its length"),
        pytest.param(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK, b"ok", id="after a word ahead"),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n" * 3 + OK, b"ok", id="after leave to go on"),
        pytest.param(counted(b"ok", first=b"HTTP/1.1 200 "), b"ok", id="without a reason"),
        pytest.param(
            b"HTTP/1.1 200 OK\nContent-Length: 10\n\nhead\r\n\r\nok",
            b"head\r\n\r\nok",
            id="behind a head of bare line feeds",
        ),
    ],
)
async def test_an_answer_comes_whole_and_the_connection_is_kept(answer: bytes, body: bytes) -> None:
    server = Server(answer)
    async with listening(server) as port, lines() as opened:
        for _ in range(3):
            assert await ask(opened, f"http://127.0.0.1:{port}/") == body
    assert server.connections == 1


class Pieces:
    """A stream that brings an answer piece by piece."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = list(pieces)

    async def receive(self, _seconds: float) -> buffers.Chunk:
        piece = self.pieces.pop(0)
        buffer = buffers.take()
        buffer[: len(piece)] = piece
        return buffer[: len(piece)]


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n" + counted(b"a body\r\n\r\nof lines"), id="of a told length"),
        pytest.param(chunked(b"a body\r\n\r\n", b"of lines"), id="in chunks"),
    ],
)
async def test_an_answer_is_the_same_however_it_is_cut_into_pieces(answer: bytes) -> None:
    for first in range(1, len(answer)):
        for second in range(first + 1, len(answer)):
            pieces = Pieces(answer[:first], answer[first:second], answer[second:])
            exchange = Exchange(cast(Stream, pieces), 1.0)
            await exchange.told(httpcore.Request("GET", "http://host/", headers=[("Host", "host")]))
            assert (await exchange.head()).status_code == 200
            body = b""
            async for chunk in exchange.body():
                body += chunk
                buffers.give_back(chunk)
            assert body == b"a body\r\n\r\nof lines"
            assert exchange.free_since is not None


@pytest.mark.parametrize(
    "server",
    [
        pytest.param(Server(counted(b"ok", b"Connection: close")), id="the server says so"),
        pytest.param(Server(counted(b"ok", first=b"HTTP/1.0 200 OK")), id="the server is of the last century"),
        pytest.param(Server(OK + b"more"), id="more came than the answer"),
        pytest.param(Server(chunked(b"ok") + b"more"), id="more came than the chunks"),
        pytest.param(Server(b"HTTP/1.1 200 OK\r\n\r\nok", ends=True), id="the body ends with the connection"),
    ],
)
async def test_an_answer_may_be_the_last_of_its_connection(server: Server) -> None:
    async with listening(server) as port, lines() as opened:
        for number in range(1, 4):
            assert await ask(opened, f"http://127.0.0.1:{port}/") == b"ok"
            assert server.connections == number


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "without an answer"),
        (b"HTTP/1.1 200 OK\r\nConte", "without an answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", "received 4 bytes, expected 100"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", "received 0 bytes, expected 100"),
        (chunked(b"half")[:-5], "peer closed connection without sending complete message body"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n", "bad Content-Length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "conflicting Content-Length"),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "illegal status line"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 50_000, "too long|exceed|too much"),
    ],
)
async def test_what_is_no_answer_is_told_and_may_have_been_read(answer: bytes, reason: str) -> None:
    async with listening(Server(answer, ends=True)) as port, lines() as opened:
        with pytest.raises(http.FAILURES, match=reason) as told:
            await ask(opened, f"http://127.0.0.1:{port}/", b"paid")
        assert not isinstance(told.value, http.UNSENT)
        assert not opened._idle


async def test_a_header_that_is_none_proves_that_nothing_was_sent() -> None:
    async with listening(Server(OK)) as port, lines() as opened:
        with pytest.raises(http.UNSENT):
            async with opened.stream("POST", f"http://127.0.0.1:{port}/", {"Key": "two\nlines"}, b"paid"):
                raise AssertionError


async def test_a_refusal_is_read_though_the_request_was_not_taken() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head_of(reader)
        writer.write(counted(b"too large", b"Connection: close", first=b"HTTP/1.1 413 Content Too Large"))
        await writer.drain()
        writer.write_eof()
        while await reader.read(1 << 20):
            pass

    async with (
        listening(refuse) as port,
        lines() as opened,
        opened.stream("POST", f"http://127.0.0.1:{port}/", content=bytes(8 << 20)) as response,
    ):
        assert (response.status_code, await response.aread()) == (413, b"too large")


@pytest.mark.parametrize("reads", [0, 1])
async def test_an_answer_that_was_not_read_to_its_end_takes_its_connection_with_it(reads: int) -> None:
    server = Server(counted(BODY * 4))
    async with listening(server) as port, lines() as opened:
        for number in (1, 2):
            async with opened.stream("GET", f"http://127.0.0.1:{port}/") as response:
                chunks = response.aiter_raw()
                for _ in range(reads):
                    await anext(chunks)
            assert not opened._idle
            assert server.connections == number


async def test_what_has_come_is_the_readers_until_its_buffer_is_given_back() -> None:
    async with listening(Server(counted(BODY))) as port, lines() as opened:
        kept: list[buffers.Chunk] = []
        for _ in range(3):
            async with opened.stream("GET", f"http://127.0.0.1:{port}/") as response:
                kept += [chunk async for chunk in response.aiter_raw()]
        assert b"".join(kept) == BODY * 3
        for chunk in kept:
            buffers.give_back(chunk)
        assert await ask(opened, f"http://127.0.0.1:{port}/") == BODY


async def test_what_comes_beyond_a_large_answer_is_cut_off() -> None:
    async with listening(Server(counted(BODY) + BODY)) as port, lines() as opened:
        body = b""
        async with opened.stream("GET", f"http://127.0.0.1:{port}/") as response:
            async for chunk in response.aiter_raw():
                body += chunk
                buffers.give_back(chunk)
        assert body == BODY
        assert not opened._idle


async def test_a_connection_that_was_idle_for_long_is_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "KEEP_SECONDS", 0.0)
    server: Server | Handler = Server(OK)
    async with listening(server) as port, lines() as opened:
        for _ in range(2):
            assert await ask(opened, f"http://127.0.0.1:{port}/") == b"ok"
    assert isinstance(server, Server)
    assert server.connections == 2
