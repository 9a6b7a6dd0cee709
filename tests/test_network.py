"""Connections as they are in the wild: behind TLS and proxies, closed while idle, too slow, too fast."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpcore
import pytest
import trustme

from batchgen.services import http, network
from tests.listening import MEGABYTE, OK, answer_all, ask, head_of, lines, listening

# --- TLS ---


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls(authority: trustme.CA) -> ssl.SSLContext:
    """A server's, for 127.0.0.1."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture
def trusted(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    http.trust.cache_clear()
    yield
    http.trust.cache_clear()


@pytest.mark.usefixtures("trusted")
async def test_requests_over_tls_share_a_connection(tls: ssl.SSLContext) -> None:
    connections = 0

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await answer_all(reader, writer)

    async with listening(count, tls) as port, lines() as opened:
        for _ in range(3):
            assert await ask(opened, f"https://127.0.0.1:{port}/") == b"ok"
    assert connections == 1


@pytest.mark.usefixtures("trusted")
async def test_a_large_file_comes_whole_over_tls(tls: ssl.SSLContext) -> None:
    body = bytes(range(256)) * 20_000

    async def give(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head_of(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()

    async with listening(give, tls) as port, lines() as opened:
        assert await ask(opened, f"https://127.0.0.1:{port}/") == body


async def test_a_certificate_that_nobody_vouches_for_proves_that_nothing_was_sent(tls: ssl.SSLContext) -> None:
    async with listening(answer_all, tls) as port, lines() as opened:
        with pytest.raises(http.UNSENT, match="certificate"):
            await ask(opened, f"https://127.0.0.1:{port}/", b"paid")


async def test_a_server_that_speaks_no_tls_proves_that_nothing_was_sent() -> None:
    came = b""

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal came
        came = await reader.read(1000)
        writer.write(OK)

    async with listening(listen) as port, lines() as opened:
        with pytest.raises(http.UNSENT):
            await ask(opened, f"https://127.0.0.1:{port}/", b"paid")
    assert b"paid" not in came


@pytest.mark.usefixtures("trusted")
async def test_tls_goes_through_a_proxy(tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []
    async with listening(answer_all, tls) as port:

        async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.append(await head_of(reader))
            there, back = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            await asyncio.gather(pump(reader, back), pump(there, writer))

        async with listening(tunnel) as proxy:
            monkeypatch.setenv("https_proxy", f"http://me:secret@127.0.0.1:{proxy}")
            monkeypatch.delenv("no_proxy", raising=False)
            http.proxy_for.cache_clear()
            async with lines() as opened:
                assert await ask(opened, f"https://127.0.0.1:{port}/") == b"ok"
    http.proxy_for.cache_clear()
    (head,) = asked
    assert head.startswith(b"CONNECT 127.0.0.1:%d HTTP/1.1" % port)
    assert b"Proxy-Authorization: Basic bWU6c2VjcmV0" in head


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(MEGABYTE):
        writer.write(data)
    writer.close()


# --- connections that end, stall or flood ---


async def test_a_connection_that_was_closed_while_it_was_idle_is_not_used_again() -> None:
    connections = 0
    closed = asyncio.Event()

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await head_of(reader)
        writer.write(OK)
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        closed.set()

    async with listening(once) as port, lines() as opened:
        for _ in range(5):
            assert await ask(opened, f"http://127.0.0.1:{port}/", b"paid") == b"ok"
            await closed.wait()
            closed.clear()
    assert connections == 5


async def test_of_connections_to_many_places_only_a_few_are_kept() -> None:
    left = 0

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal left
        try:
            await answer_all(reader, writer)
        finally:
            left += 1

    async with AsyncExitStack() as stack:
        ports = [await stack.enter_async_context(listening(count)) for _ in range(5)]
        opened = await stack.enter_async_context(lines(2))
        for port in ports * 2:
            assert await ask(opened, f"http://127.0.0.1:{port}/") == b"ok"
        assert len(opened._idle) == 2
    assert left == 10


async def test_a_request_leaves_in_one_piece() -> None:
    pieces: list[bytes] = []

    async def gather(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pieces.append(await reader.read(MEGABYTE))
        writer.write(OK)

    async with listening(gather) as port, lines() as opened:
        await ask(opened, f"http://127.0.0.1:{port}/", b"a small body")
    assert pieces[0].endswith(b"\r\n\r\na small body")


async def test_a_large_request_arrives_whole() -> None:
    body = bytes(range(256)) * 40_000
    came = b""

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal came
        await head_of(reader)
        came = await reader.readexactly(len(body))
        writer.write(OK)

    async with listening(take) as port, lines() as opened:
        assert await ask(opened, f"http://127.0.0.1:{port}/", body) == b"ok"
    assert came == body


async def test_a_request_that_the_server_does_not_take_ends_and_may_have_been_read() -> None:
    done = asyncio.Event()

    async def stall(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await done.wait()

    async with listening(stall) as port, lines(seconds=0.2) as opened:
        with pytest.raises(http.FAILURES) as told:
            await ask(opened, f"http://127.0.0.1:{port}/", bytes(64 * MEGABYTE))
        assert isinstance(told.value, httpcore.WriteTimeout)
        assert not isinstance(told.value, http.UNSENT)
        done.set()


async def test_a_server_that_sends_faster_than_is_read_has_to_wait() -> None:
    sent = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await head_of(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (64 * MEGABYTE))
        for _ in range(64):
            writer.write(bytes(MEGABYTE))
            await writer.drain()
            sent += 1

    streams: list[network.Stream] = []
    async with listening(flood) as port, lines() as opened:
        async with opened.stream("GET", f"http://127.0.0.1:{port}/") as response:
            streams.append(response.extensions["network_stream"])
            chunks = response.aiter_raw()
            total = len(await anext(chunks))
            while streams[0]._transport.is_reading():  # noqa: ASYNC110 - a transport rings no bell
                await asyncio.sleep(0)
            assert streams[0]._size < 2 * network.HELD_BYTES
            assert sent < 64
            async for chunk in chunks:
                total += len(chunk)
        assert (total, sent) == (64 * MEGABYTE, 64)


async def test_what_came_before_the_connection_broke_is_read_first() -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head_of(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        await writer.drain()

    async with (
        listening(cut) as port,
        lines() as opened,
        opened.stream("GET", f"http://127.0.0.1:{port}/") as response,
    ):
        chunks = response.aiter_raw()
        assert await anext(chunks) == b"half"
        with pytest.raises(http.FAILURES, match="received 4 bytes, expected 100"):
            await anext(chunks)


@pytest.mark.parametrize("port", [0, 99_999])
async def test_a_port_that_is_none_is_a_bad_address_or_proves_that_nothing_was_sent(port: int) -> None:
    async with lines() as opened:
        with pytest.raises((*http.UNSENT, *http.BAD_ADDRESS)):
            await ask(opened, f"http://127.0.0.1:{port}/", b"paid")
