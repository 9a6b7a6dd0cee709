"""Where a file's address may lead, on real sockets: never from https to http, never into a private network."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from batchgen.services import failures, file_server
from tests.certificates import server_tls, trusting_the_authority
from tests.listening import Handler, hang, listening, read_head, sends
from tests.wire import answer

pytestmark = pytest.mark.hostile(
    "addresses, redirects and drips of file servers",
    "not followed, or given up in time; the job says why and tries again",
)

LOCAL = "http://127.0.0.1:1"
PUBLIC = "https://8.8.8.8"
FILE = answer(200, b"the file")


async def fetch(url: str, base_url: str) -> bytes:
    async with file_server.client(1) as client, file_server.open_file(client, url, {}, base_url) as response:
        return b"".join([piece async for piece in file_server.stream_body(response)])


def leads_to(url: str, body: bytes = b"") -> bytes:
    return answer(302, body, {"Location": url})


def endless(head: bytes) -> Handler:
    """Sends a body that never ends."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(head)
        while True:
            writer.write(b"10000\r\n" + bytes(0x10000) + b"\r\n")
            await writer.drain()

    return handle


def recording(requests: list[bytes]) -> Handler:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await read_head(reader))
        writer.write(FILE)

    return handle


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "127.0.0.7", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0", "2130706433"]
)
async def test_a_service_on_the_internet_leads_to_no_file_of_this_network(address: str) -> None:
    requests: list[bytes] = []
    async with listening(recording(requests)) as port:
        with pytest.raises((*failures.FAILURES, *failures.BAD_ADDRESS)):
            await fetch(f"http://{address}:{port}/secret", PUBLIC)
    assert not requests


async def test_nor_does_a_redirect_from_the_internet(monkeypatch: pytest.MonkeyPatch) -> None:
    requests: list[bytes] = []
    async with listening(recording(requests)) as port, listening(sends(leads_to(f"http://127.0.0.1:{port}/"))) as proxy:
        monkeypatch.setenv("http_proxy", f"http://localhost:{proxy}")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setattr(file_server, "proxies", file_server.proxies.__wrapped__)
        with pytest.raises(failures.FAILURES, match=r"127\.0\.0\.1 is 127\.0\.0\.1, which is not on the internet"):
            await fetch("http://files.test/v.mp4", PUBLIC)
    assert not requests


async def test_a_service_of_this_network_leads_to_its_files() -> None:
    async with listening(sends(FILE)) as port, listening(sends(leads_to(f"http://127.0.0.1:{port}/"))) as first:
        assert await fetch(f"http://127.0.0.1:{first}/", LOCAL) == b"the file"


@pytest.mark.parametrize(
    ("address", "is_private"),
    [
        *((address, True) for address in ("10.0.0.1", "172.16.9.9", "192.168.1.1", "169.254.169.254", "100.64.0.1")),
        *((address, True) for address in ("::1", "fe80::1%eth0", "fd00::1", "::ffff:10.0.0.1", "0.0.0.0")),
        *((address, False) for address in ("8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8")),
    ],
)
def test_an_address_is_of_this_network_or_of_the_internet(address: str, is_private: bool) -> None:
    assert file_server.is_private(address) is is_private


async def test_a_proxy_of_the_environment_may_be_in_this_network(monkeypatch: pytest.MonkeyPatch) -> None:
    async with listening(sends(FILE)) as port:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
        monkeypatch.setattr(file_server, "proxies", file_server.proxies.__wrapped__)
        assert await fetch("http://files.test/v.mp4", PUBLIC) == b"the file"


async def test_no_redirect_leads_from_https_to_http(tmp_path: Path) -> None:
    async with listening(sends(FILE)) as plain:
        leading = sends(leads_to(f"http://127.0.0.1:{plain}/"))
        with trusting_the_authority(tmp_path):
            client = file_server.client(1)
        async with listening(leading, server_tls()) as port, client:
            with pytest.raises(failures.FAILURES, match="leads from https to http"):
                async with file_server.open_file(client, f"https://127.0.0.1:{port}/", {}, LOCAL):
                    pass


async def test_the_body_of_a_redirect_is_not_read() -> None:
    async with listening(sends(FILE)) as port:
        head = f"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:{port}/\r\nTransfer-Encoding: chunked\r\n\r\n"
        async with listening(endless(head.encode())) as first:
            assert await fetch(f"http://127.0.0.1:{first}/", LOCAL) == b"the file"


async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A byte at a time, so that no read times out."""
    await read_head(reader)
    for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + bytes(100_000):
        writer.write(bytes([byte]))
        await asyncio.sleep(0.01)


async def interim(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_head(reader)
    while True:
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0)


@pytest.mark.parametrize("handler", [drip, interim, hang])
async def test_the_head_of_an_answer_has_to_come_in_time(handler: Handler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_server, "HEAD_SECONDS", 0.2)
    async with listening(handler) as port:
        with pytest.raises(failures.FAILURES):
            await fetch(f"http://127.0.0.1:{port}/", LOCAL)


async def test_a_body_that_drips_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_server, "PIECE_SECONDS", 0.2)
    async with listening(drip) as port:
        with pytest.raises(failures.FAILURES):  # without it, this would take a quarter of an hour
            await fetch(f"http://127.0.0.1:{port}/", LOCAL)
