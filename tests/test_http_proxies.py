"""Proxies, NO_PROXY and certificates of the environment: how requests go, and what a failing proxy proves."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from batchgen.errors import UsageError
from batchgen.services import http
from batchgen.services.aimlapi import AimlApi
from batchgen.services.outcomes import Accepted, NotSent, Unknown
from tests.certificates import server_tls, trusting_the_authority
from tests.listening import MEGABYTE, Handler, hang, listening, read_head, sends
from tests.test_http import service
from tests.test_http_failures import CREATED, KEY, submit
from tests.wire import answer, serving


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "CONNECT_SECONDS", 0.3)
    monkeypatch.setattr(http, "SUBMIT_SECONDS", 0.6)


# --- the environment ---


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "ALL_PROXY"])
async def test_a_request_goes_through_the_proxy_of_the_environment(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(answer(200, {"current_balance": 7})) as proxy:
        monkeypatch.setenv(name, proxy.base_url.removeprefix("http://"))
        async with service("http://service.invalid") as api:
            assert str(await api.balance()) == "7"
    assert [request.target for request in proxy.requests] == ["http://service.invalid/v2/billing"]


async def test_a_host_in_no_proxy_is_asked_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    async with serving(answer(200, {"current_balance": 7})) as wire, service(wire.base_url) as api:
        assert str(await api.balance()) == "7"


@pytest.mark.parametrize("proxy", ["gopher://me:secret@127.0.0.1:9", "socks4://127.0.0.1:9", "http://a:b"])
def test_a_proxy_that_cannot_be_used_is_refused_with_what_to_do(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", proxy)
    with pytest.raises(UsageError, match=r"HTTPS_PROXY .* socks5://") as refused:
        AimlApi("https://service.invalid", "key")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(("make", "fault"), [(lambda _path: None, "No such file"), (os.mkfifo, "not a regular file")])
def test_certificates_that_cannot_be_read_are_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None], fault: str
) -> None:
    place = tmp_path / "ca.pem"
    make(place)
    monkeypatch.setenv("SSL_CERT_FILE", str(place))
    http.trusted_certificates.cache_clear()
    with pytest.raises(UsageError, match=rf"{place} cannot be read: .*{fault}"):
        AimlApi("https://service.invalid", "key")


# --- failures ---


async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
    async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(MEGABYTE):
            target.write(data)
        target.close()

    back, there = await asyncio.open_connection("127.0.0.1", port)
    try:
        await asyncio.gather(pump(reader, there), pump(back, writer))
    finally:
        there.close()


@asynccontextmanager
async def proxy(monkeypatch: pytest.MonkeyPatch, handler: Handler, scheme: str = "http") -> AsyncIterator[None]:
    async with listening(handler) as port:
        monkeypatch.setenv("all_proxy", f"{scheme}://me:secret@127.0.0.1:{port}")
        yield


NO_TUNNEL: dict[str, Handler] = {
    "403": sends(answer(403)),
    "407": sends(answer(407)),
    "502": sends(answer(502)),
    "a redirect": sends(answer(302, headers={"Location": "http://login.test"})),
    "half an answer": sends(b"HTTP/1.1 200 Connection est"),
    "half an answer, then a reset": sends(b"HTTP/1.1 200 Connection est", by_reset=True),
    "nonsense": sends(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"),
    "closed": sends(b""),
    "closed at once": sends(b"", after=0),
    "reset": sends(b"", by_reset=True),
    "no answer": hang,
    "a tunnel that leads nowhere": sends(b"HTTP/1.1 200 OK\r\n\r\n"),
    "a tunnel to something without TLS": sends(b"HTTP/1.1 200 OK\r\n\r\n" + CREATED),
}


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("handler", NO_TUNNEL.values(), ids=NO_TUNNEL)
async def test_a_proxy_that_opens_no_tunnel_proves_that_nothing_was_sent(
    handler: Handler, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with proxy(monkeypatch, handler):
        outcome = await submit("https://service.invalid")
    assert isinstance(outcome, NotSent), outcome
    assert "secret" not in repr(outcome)


NO_SOCKS: dict[str, Handler] = {
    "no method accepted": sends(b"\x05\xff", after=3),
    "another version": sends(b"\x04\x00", after=3),
    "an answer to something else": sends(b"\x05\x00\x00\x01" + bytes(6), after=3),
    "closed": sends(b"", after=3),
    "reset": sends(b"", after=3, by_reset=True),
    "wrong password": sends(b"\x05\x02\x01\x01", after=3),
    "nonsense": sends(b"HTTP/1.1 400 Bad Request\r\n\r\n", after=3),
    "no answer": hang,
}


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("handler", NO_SOCKS.values(), ids=NO_SOCKS)
@pytest.mark.parametrize("base_url", ["http://service.invalid", "https://service.invalid"])
async def test_a_socks_proxy_that_does_not_connect_proves_that_nothing_was_sent(
    base_url: str, handler: Handler, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with proxy(monkeypatch, handler, "socks5"):
        outcome = await submit(base_url)
    assert isinstance(outcome, NotSent), outcome


def socks(reply: int, port: int = 0) -> Handler:
    """A SOCKS5 proxy (RFC 1928) with a password that leads every connection to `port`."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(3)
        writer.write(b"\x05\x02")
        await reader.readexactly(len(b"\x01\x02me\x06secret"))
        writer.write(b"\x01\x00")
        head = await reader.readexactly(5)
        await reader.readexactly(head[4] + 2)
        writer.write(bytes([5, reply, 0, 1]) + bytes(6))
        if port:
            await relay(reader, writer, port)

    return handle


@pytest.mark.parametrize("reply", [1, 2, 5, 8])
async def test_a_connection_that_socks_refuses_proves_that_nothing_was_sent(
    reply: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with proxy(monkeypatch, socks(reply), "socks5"):
        assert isinstance(await submit("http://service.invalid"), NotSent)


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("kind", ["http", "socks5"])
@pytest.mark.parametrize(("reply", "outcome"), [(CREATED, Accepted), (b"", Unknown), (CREATED[:-3], Unknown)])
async def test_through_a_proxy_a_create_arrives_and_what_follows_it_is_unknown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str, tls: bool, reply: bytes, outcome: type
) -> None:
    async with listening(sends(reply), server_tls("service.invalid") if tls else None) as port:

        async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = await read_head(reader)
            assert b"Proxy-Authorization: Basic bWU6c2VjcmV0" in head
            if tls:
                assert KEY.encode() not in head
                writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
                await relay(reader, writer, port)
            else:
                writer.write(reply)

        handler = tunnel if kind == "http" else socks(0, port)
        async with proxy(monkeypatch, handler, kind):
            with trusting_the_authority(tmp_path):
                assert isinstance(await submit(f"http{'s' if tls else ''}://service.invalid"), outcome)


async def test_an_error_of_a_proxy_that_forwards_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have forwarded the request before it failed."""
    async with proxy(monkeypatch, sends(answer(502))):
        assert isinstance(await submit("http://service.invalid"), Unknown)
