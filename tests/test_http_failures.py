"""What each failure of a create proves, on real sockets: nothing was sent, or the outcome is unknown.

Both mistakes cost: an unknown outcome taken for "not sent" buys a video twice, and the other way round a job waits.
"""

from __future__ import annotations

import asyncio
import errno
import gzip
import os
import resource
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from batchgen import clock
from batchgen.services import failures, http
from batchgen.services.aimlapi import AimlApi
from batchgen.services.base import Submission
from batchgen.services.outcomes import Accepted, NotSent, SubmitOutcome, Unknown
from batchgen.services.send_time import sending_until
from tests.certificates import server_tls, trusting_the_authority
from tests.listening import MEGABYTE, Handler, hang, listening, never_read, read_head, sends
from tests.wire import answer, closed_port

pytestmark = pytest.mark.hostile(
    "answers that break, drip, swell or never end", "a create is unknown, or provably not sent"
)

KEY = "sk-secret-0123456789"
SUBMISSION = Submission("m", "/v2/video/generations", '{"prompt": "a"}', "batchgen-1")
LARGE = Submission("m", "/v2/video/generations", " " * 8 * MEGABYTE, "batchgen-1")
CREATED = answer(201, {"id": "g-1"})


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "CONNECT_SECONDS", 0.3)
    monkeypatch.setattr(http, "SUBMIT_SECONDS", 0.6)
    monkeypatch.setattr(http, "UPLOAD_BYTES_PER_SECOND", 1 << 40)


async def submit(base_url: str, submission: Submission = SUBMISSION) -> SubmitOutcome:
    service = AimlApi(base_url, KEY)
    try:
        return await service.submit(submission)
    finally:
        await service.close()


async def submit_to(handler: Handler, submission: Submission = SUBMISSION) -> SubmitOutcome:
    async with listening(handler) as port:
        return await submit(f"http://127.0.0.1:{port}", submission)


async def test_a_request_that_is_held_up_for_too_long_is_not_sent() -> None:
    received: list[bytes] = []

    async def service(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.read())

    with sending_until(clock.utcnow() - timedelta(seconds=1)):
        outcome = await submit_to(service)
    assert isinstance(outcome, NotSent)
    assert "stopped for too long" in outcome.reason
    assert not b"".join(received)


# --- after the connection stands: unknown, whatever comes ------------------------------------------------------------


async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Sends its answer so slowly that no single read times out."""
    await read_head(reader)
    for number in range(len(CREATED)):
        writer.write(CREATED[number : number + 1])
        await asyncio.sleep(0.05)


async def interim_answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_head(reader)
    while True:
        writer.write(b"HTTP/1.1 102 Processing\r\n\r\n" * 100)
        await writer.drain()
        await asyncio.sleep(0)


BOMB = gzip.compress(bytes(64 * MEGABYTE))
PACKED = {"Content-Encoding": "gzip"}
UNKNOWN: dict[str, tuple[Handler, Submission]] = {
    "closed at once": (sends(b"", after=0), SUBMISSION),
    "reset at once": (sends(b"", after=0, by_reset=True), SUBMISSION),
    "closed after the first byte of the request": (sends(b"", after=1), SUBMISSION),
    "reset after the first byte of the request": (sends(b"", after=1, by_reset=True), SUBMISSION),
    "closed within a large request": (sends(b"", after=MEGABYTE), LARGE),
    "reset within a large request": (sends(b"", after=MEGABYTE, by_reset=True), LARGE),
    "closed after the request": (sends(b""), SUBMISSION),
    "reset after the request": (sends(b"", by_reset=True), SUBMISSION),
    "closed within the answer": (sends(CREATED[:-3]), SUBMISSION),
    "reset within the answer": (sends(CREATED[:-3], by_reset=True), SUBMISSION),
    "interim answers, then closed": (sends(b"HTTP/1.1 100 Continue\r\n\r\n" * 3), SUBMISSION),
    "not HTTP": (sends(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"), SUBMISSION),
    "random bytes": (sends(bytes(range(256)) * 40), SUBMISSION),
    "a head without an end": (sends(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 50_000), SUBMISSION),
    "two lengths": (sends(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"), SUBMISSION),
    "a body that is not gzip": (sends(answer(201, b"{}", PACKED)), SUBMISSION),
    "a body larger than all memory": (sends(answer(201, BOMB, PACKED)), SUBMISSION),
    **{
        f"a redirect to {location}": (sends(answer(302, headers={"Location": location})), SUBMISSION)
        for location in ("http://[::1", "//x..y/", "ftp://files.test/")
    },
    "the request is never read": (never_read, Submission("m", "/v2", " " * 64 * MEGABYTE, "batchgen-1")),
    "the request is never answered": (hang, SUBMISSION),
    "one byte of the answer at a time": (drip, SUBMISSION),
    "interim answers without end": (interim_answers, SUBMISSION),
}


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(("handler", "submission"), UNKNOWN.values(), ids=UNKNOWN)
async def test_once_connected_every_failure_is_unknown(handler: Handler, submission: Submission) -> None:
    outcome = await submit_to(handler, submission)
    assert isinstance(outcome, Unknown)
    assert " " in outcome.reason, "the name of a class tells a person nothing"
    assert "Errno" not in outcome.reason, "nor does a number of the system"


@pytest.mark.parametrize("renamed", ["", "http11.", "connection."])
async def test_a_library_that_reports_its_progress_otherwise_proves_nothing_by_it(
    renamed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The names of trace events may change. Then the type of an error decides, and never for "not sent"."""
    follow = http.RequestProgress.__call__

    async def follow_renamed(progress: http.RequestProgress, event: str, info: Mapping[str, Any]) -> None:
        if not event.startswith(renamed):
            await follow(progress, event, info)

    monkeypatch.setattr(http.RequestProgress, "__call__", follow_renamed)
    assert isinstance(await submit_to(sends(b"")), Unknown)
    assert isinstance(await submit_to(sends(CREATED[:-3], by_reset=True)), Unknown)
    assert isinstance(await submit(f"http://127.0.0.1:{closed_port()}"), NotSent)


async def test_a_refusal_is_read_although_the_request_was_not_taken_whole() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(answer(413, {"message": "too large"}))
        await writer.drain()
        writer.write_eof()
        while await reader.read(MEGABYTE):
            pass

    outcome = await submit_to(refuse, LARGE)
    assert getattr(outcome, "http_status", None) == 413


# --- no connection: nothing was sent ---------------------------------------------------------------------------------


@contextmanager
def no_more_descriptors() -> Iterator[None]:
    """Use up what this process may open."""
    limits, taken = resource.getrlimit(resource.RLIMIT_NOFILE), list[int]()
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(limits[0], 200), limits[1]))
    try:
        with suppress(OSError):
            while True:
                taken.append(os.dup(0))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for descriptor in taken:
            os.close(descriptor)


async def test_descriptors_that_have_run_out_are_told_with_what_to_do_and_nothing_was_sent() -> None:
    async with listening(sends(CREATED)) as port:
        service = AimlApi(f"http://127.0.0.1:{port}", KEY)
        try:
            with no_more_descriptors():
                outcome = await service.submit(SUBMISSION)
            assert outcome == NotSent("too many files are open here: raise the number that may be (ulimit -n)")
            assert isinstance(await service.submit(SUBMISSION), Accepted)
        finally:
            await service.close()


async def test_a_refused_connection_proves_that_nothing_was_sent() -> None:
    port = closed_port()
    outcome = await submit(f"http://127.0.0.1:{port}")
    assert outcome == NotSent(f"nobody answers at 127.0.0.1:{port}: connection refused")


def test_why_nobody_answers_is_told_in_the_words_of_the_system() -> None:
    unreachable = OSError(errno.EHOSTUNREACH, "Connect call failed ('fd00::7', 8080, 0, 0)")
    assert failures.describe(unreachable) == "nobody answers at [fd00::7]:8080: no route to host"


async def test_what_is_no_http_is_quoted_as_it_came() -> None:
    outcome = await submit_to(sends(b"ICY 201 OK\r\n\r\n"))
    assert outcome == Unknown("illegal status line: 'ICY 201 OK'")


async def test_a_name_that_does_not_resolve_proves_that_nothing_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_such_name(*_arguments: object, **_options: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_such_name)
    outcome = await submit("http://service.invalid")
    assert isinstance(outcome, NotSent)
    assert "not known" in outcome.reason


@pytest.mark.usefixtures("impatient")
async def test_a_server_that_accepts_no_more_connections_proves_that_nothing_was_sent() -> None:
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(8):  # fill its queue
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        outcome = await submit(f"http://127.0.0.1:{listener.getsockname()[1]}")
    assert outcome == NotSent("no connection in time")


# --- TLS -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def trusted(tmp_path: Path) -> Iterator[None]:
    with trusting_the_authority(tmp_path):
        yield


HANDSHAKES: dict[str, Handler] = {
    "closed": sends(b"", after=0),
    "reset": sends(b"", after=0, by_reset=True),
    "closed within": sends(b"", after=20),
    "reset within": sends(b"", after=20, by_reset=True),
    "no TLS spoken": sends(CREATED, after=20),
    "nonsense": sends(bytes(range(256)), after=20),
    "no answer": hang,
}


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("handler", HANDSHAKES.values(), ids=HANDSHAKES)
async def test_a_failed_tls_handshake_proves_that_nothing_was_sent(handler: Handler) -> None:
    async with listening(handler) as port:
        assert isinstance(await submit(f"https://127.0.0.1:{port}"), NotSent)


async def test_an_untrusted_certificate_proves_that_nothing_was_sent() -> None:
    async with listening(sends(CREATED), server_tls()) as port:
        outcome = await submit(f"https://127.0.0.1:{port}")
    assert isinstance(outcome, NotSent)
    assert "certificate" in outcome.reason


@pytest.mark.usefixtures("trusted")
async def test_the_certificate_of_another_host_proves_that_nothing_was_sent() -> None:
    async with listening(sends(CREATED), server_tls("elsewhere.test")) as port:
        assert isinstance(await submit(f"https://127.0.0.1:{port}"), NotSent)


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("by_reset", [False, True])
@pytest.mark.parametrize("after", [0, 1, None])
async def test_after_the_tls_handshake_a_failure_is_unknown(after: int | None, by_reset: bool) -> None:
    async with listening(sends(b"", after=after, by_reset=by_reset), server_tls()) as port:
        assert isinstance(await submit(f"https://127.0.0.1:{port}"), Unknown)


@pytest.mark.usefixtures("trusted")
async def test_a_demand_for_a_client_certificate_after_the_request_is_unknown() -> None:
    """In TLS 1.3 the client has finished the handshake, and sent its request, before the server refuses it."""
    context = server_tls()
    context.verify_mode = ssl.CERT_REQUIRED
    async with listening(sends(CREATED), context) as port:
        assert isinstance(await submit(f"https://127.0.0.1:{port}"), Unknown)


@pytest.mark.usefixtures("trusted")
async def test_a_create_goes_over_tls_that_the_company_s_certificates_vouch_for() -> None:
    async with listening(sends(CREATED), server_tls()) as port:
        assert isinstance(await submit(f"https://127.0.0.1:{port}"), Accepted)
