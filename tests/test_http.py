"""The three clients: which connections they use, how long they wait, how much they read, where they go."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from batchgen.services import failures, file_server, http
from batchgen.services.aimlapi import AimlApi, handle_of
from batchgen.services.base import AT_ONCE, Submission
from batchgen.services.client import ApiClient
from batchgen.services.outcomes import Accepted, Unavailable, Working
from tests.certificates import server_tls, trusting_the_authority
from tests.listening import MEGABYTE, answer_ok, hang, listening, read_head, sends
from tests.wire import Request, answer, serving

C = TypeVar("C", AimlApi, ApiClient)
HANDLE = handle_of("g-1", "/v2/video/generations")
SUBMISSION = Submission("m", "/v2/video/generations", "{}", "batchgen-1")
CREATED = answer(200, {"id": "g-1", "status": "queued"}, {"Connection": None})  # asks to keep the connection


@asynccontextmanager
async def closing(opened: C) -> AsyncIterator[C]:
    try:
        yield opened
    finally:
        await opened.close()


def service(base_url: str) -> AbstractAsyncContextManager[AimlApi]:
    return closing(AimlApi(base_url, "sk-1234567890"))


class Counter:
    """Answers every request alike, and counts its connections."""

    def __init__(self, reply: bytes) -> None:
        self.reply = reply
        self.connections = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while True:
            head = await read_head(reader)
            if head.startswith(b"POST"):
                await reader.readexactly(len(SUBMISSION.request))
            writer.write(self.reply)


# --- connections -----------------------------------------------------------------------------------------------------


async def test_no_create_uses_a_connection_that_was_used_before() -> None:
    server = Counter(CREATED)
    async with listening(server) as port, service(f"http://127.0.0.1:{port}") as api:
        for _ in range(3):
            assert isinstance(await api.submit(SUBMISSION), Accepted)
        await asyncio.gather(*(api.submit(SUBMISSION) for _ in range(2 * AT_ONCE)))
    assert server.connections == 3 + 2 * AT_ONCE


async def test_questions_share_a_connection() -> None:
    server = Counter(CREATED)
    async with listening(server) as port, service(f"http://127.0.0.1:{port}") as api:
        for _ in range(5):
            assert await api.fetch(HANDLE) == Working("queued")
    assert server.connections == 1


async def test_a_connection_that_the_server_closed_while_it_was_idle_is_not_used_again() -> None:
    closed = asyncio.Event()

    async def answer_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(CREATED)
        writer.close()
        await writer.wait_closed()
        closed.set()

    async with listening(answer_once) as port, service(f"http://127.0.0.1:{port}") as api:
        for _ in range(5):
            assert await api.fetch(HANDLE) == Working("queued")
            await closed.wait()
            closed.clear()


async def test_requests_beyond_the_number_of_connections_wait_and_do_not_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "POOL_SECONDS", 0.001)
    number = 4 * AT_ONCE
    at_once = most = 0

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal at_once, most
        while True:
            await read_head(reader)
            at_once += 1
            most = max(most, at_once)
            await asyncio.sleep(0.05)  # longer than a request could wait in the pool
            at_once -= 1
            writer.write(CREATED)

    async with listening(slow) as port, service(f"http://127.0.0.1:{port}") as api:
        fetches = [api.fetch(HANDLE) for _ in range(number)]
        assert await asyncio.gather(*fetches) == [Working("queued")] * number
        outcomes = await asyncio.gather(*(api.submit(SUBMISSION) for _ in range(number)))
    assert outcomes == [Accepted("g-1", None, 200, HANDLE)] * number
    assert most == AT_ONCE


@pytest.mark.parametrize(
    "cookie",
    ["a=b; Path=/", f"a=b; expires=Mon, 01 Jan {'9' * 5_000} 00:00:00 GMT", "a=b; version=²", "=;;; domain=\x7f"],
)
async def test_no_cookie_is_read_or_sent_back(cookie: str) -> None:
    reply = answer(200, {"status": "queued"}, {"Set-Cookie": cookie})
    async with serving(reply) as wire, service(wire.base_url) as api:
        await api.fetch(HANDLE)
        await api.fetch(HANDLE)
    assert [request.headers.get("cookie") for request in wire.requests] == [None, None]


# --- time and size ---------------------------------------------------------------------------------------------------


async def test_a_question_has_a_time_limit_that_slow_bytes_do_not_extend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "QUESTION_SECONDS", 0.3)

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        for byte in CREATED:
            writer.write(bytes([byte]))
            await asyncio.sleep(0.05)

    async with listening(drip) as port, service(f"http://127.0.0.1:{port}") as api:
        outcome = await api.fetch(HANDLE)
    assert getattr(outcome, "reason", None) == "no answer in time"


async def test_a_large_create_has_the_time_to_be_uploaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "SUBMIT_SECONDS", 0.0)
    large = Submission("m", "/v2/video/generations", " " * MEGABYTE, "batchgen-1")  # ten seconds by its size
    async with serving(CREATED) as wire, service(wire.base_url) as api:
        assert isinstance(await api.submit(large), Accepted)


@pytest.mark.parametrize("headers", [{}, {"Content-Encoding": "gzip"}])
@pytest.mark.parametrize("more", [0, 1])
async def test_a_json_answer_is_read_up_to_a_limit_of_decoded_bytes(headers: dict[str, str], more: int) -> None:
    body = bytes(http.BODY_BYTES_MAX + more)
    sent = gzip.compress(body, 1) if headers else body
    async with serving(answer(200, sent, headers)) as wire, closing(ApiClient(wire.base_url, "")) as client:
        answered = await client.ask("/", seconds=10)
        if more:
            assert answered == Unavailable("the answer is longer than 16 MB")
        else:
            assert isinstance(answered, http.Answer) and answered.body == body


async def test_a_head_answer_with_a_length_has_no_body_to_wait_for() -> None:
    async def head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: 70000\r\n\r\n")
        await hang(reader, writer)

    async with listening(head) as port, closing(ApiClient(f"http://127.0.0.1:{port}", "")) as client:
        answered = await client.ask("/image.png", method="HEAD", seconds=5)
    assert isinstance(answered, http.Answer)
    assert (answered.status, answered.headers["content-length"], answered.body) == (200, "70000", b"")


# --- downloads -------------------------------------------------------------------------------------------------------


async def test_a_download_is_redirected_to_its_place_and_not_in_a_circle() -> None:
    def by_path(request: Request) -> bytes:
        location = {"/a": "/b", "/b": "/c", "/round": "/round"}.get(request.path)
        return answer(302, b"", {"Location": location}) if location else answer(200, b"the file")

    async with serving(by_path) as wire, file_server.client(1) as client:
        headers = {"Range": "bytes=1-"}
        async with file_server.open_file(client, wire.base_url + "/a", headers, wire.base_url) as response:
            assert await response.aread() == b"the file"
        assert {request.headers["range"] for request in wire.requests} == {"bytes=1-"}
        assert {request.headers["accept-encoding"] for request in wire.requests} == {"identity"}
        with pytest.raises(failures.FAILURES, match="redirects"):
            async with file_server.open_file(client, wire.base_url + "/round", {}, wire.base_url):
                pass


@pytest.mark.parametrize("location", ["ftp://files.test/v.mp4", "http://[::1/v.mp4", "http://127.0.0.1:port/"])
async def test_a_redirect_to_what_is_no_address_is_a_failure(location: str) -> None:
    async with serving(answer(302, b"", {"Location": location})) as wire, file_server.client(1) as client:
        with pytest.raises((*failures.FAILURES, *failures.BAD_ADDRESS)):
            async with file_server.open_file(client, wire.base_url, {}, wire.base_url):
                pass


async def test_what_came_before_a_connection_broke_is_read_first() -> None:
    cut = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"
    async with (
        listening(sends(cut)) as port,
        file_server.client(1) as client,
        file_server.open_file(client, f"http://127.0.0.1:{port}/", {}, f"http://127.0.0.1:{port}") as response,
    ):
        chunks = file_server.stream_body(response)
        assert await anext(chunks) == b"half"
        with pytest.raises(failures.FAILURES, match="4 bytes, expected 100"):
            await anext(chunks)


async def test_a_download_over_tls_that_turns_to_nonsense_is_a_failure_of_the_network(tmp_path: Path) -> None:
    """httpx passes on what OpenSSL raises, an `OSError`, which would look like a failure of the disk."""

    async def corrupt(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        await writer.drain()
        connection = writer.get_extra_info("socket")
        connection._sock.send(b"\x17\x03\x03\x00\x20" + bytes(32))  # a record with a wrong authentication tag
        await hang(reader, writer)

    with trusting_the_authority(tmp_path):
        client = file_server.client(1)
    async with listening(corrupt, server_tls()) as port, client:
        with pytest.raises(failures.FAILURES):
            address = f"https://127.0.0.1:{port}"
            async with file_server.open_file(client, address, {}, address) as response:
                async for _ in file_server.stream_body(response):
                    pass


async def test_the_log_names_each_request_and_never_the_key(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    async with listening(answer_ok) as port, service(f"http://127.0.0.1:{port}") as api:
        await api.balance()
    (record,) = [record for record in caplog.records if record.name == "batchgen.http"]
    assert (record.message, record.method) == ("http.200", "GET")  # type: ignore[attr-defined]
    assert record.url.endswith("/v2/billing")  # type: ignore[attr-defined]
    assert "sk-1234567890" not in "".join(str(vars(record)) for record in caplog.records)
