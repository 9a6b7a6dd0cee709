"""HTTP by httpx2: three kinds of client, a time limit on every request, and what a failed request proves.

Only this module and the downloader send requests. Times are in seconds.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import Enum
from functools import cache
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any
from urllib.request import getproxies

import httpx2 as httpx

from batchgen import __version__
from batchgen.errors import UsageError
from batchgen.services.base import AT_ONCE

CONNECT_SECONDS = 15.0  # for TCP and again for TLS; a server that is up answers within one round trip
SUBMIT_SECONDS = 180.0  # a slow create is worth waiting for: nobody knows whether one that was given up is charged
UPLOAD_BYTES_PER_SECOND = 100_000  # a create may take longer by its size at this rate: a slow line is no failure
FETCH_SECONDS = 30.0  # a whole question with its answer; a poll is asked again anyway
DOWNLOAD_SECONDS = 60.0  # between two pieces of a file; a whole file may take hours
KEEP_ALIVE_SECONDS = 20.0  # below the idle time-outs of common load balancers (60 s)
BODY_BYTES_MAX = 16 << 20  # of a decoded JSON answer; a page of 100 rows has some 100 kB
REASON_CHARS_MAX = 2_000  # of the text of a failure, which may quote what a server sent
RETRY_AFTER_MAX = timedelta(days=1)  # a longer pause would outlast every run
NO_HEADERS: Mapping[str, str] = {}

Response = httpx.Response

BAD_ADDRESS = (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError)
"""What an unusable URL raises. `UnicodeError`: its host, or a header, has characters that cannot be sent."""

FAILURES = (httpx.RequestError,)
"""Every failure of a request: of the network, of the protocol, of a proxy, of decoding, and endless redirects."""

NOT_SENT = (
    httpx.ConnectError,  # refused, unreachable, DNS, TLS
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
    httpx.LocalProtocolError,  # raised while the request's head is built
    httpx.InvalidURL,
)
"""Failures which prove that no byte of the request reached the service. `Client` makes sure of it."""


class Step(Enum):
    """How far a request has come."""

    QUEUED = "no connection assigned"
    CONNECTING = "TCP, TLS, or the handshake with a proxy under way"
    CONNECTED = "nothing written yet"
    SENDING = "the first byte may have left"


class Progress:
    """Follows one request through the trace events of httpx (its documented `trace` extension).

    The names of the events may change with the library. An event that is not recognized never counts as proof.
    """

    def __init__(self) -> None:
        self.step = Step.QUEUED
        self._connection: Any = None

    async def __call__(self, event: str, info: Mapping[str, Any]) -> None:
        name, _, phase = event.rpartition(".")
        match name.rpartition(".")[2], phase:
            case _ if self.step is Step.SENDING:
                pass  # a redirect connects again, but its request is the same
            case "send_request_headers", "started":
                # CONNECT asks a proxy for a tunnel; the request itself follows through the tunnel.
                is_tunnel = getattr(info.get("request"), "method", None) == b"CONNECT"
                self.step = Step.CONNECTING if is_tunnel else Step.SENDING
            case "connect_tcp" | "start_tls" | "setup_socks5_connection", "started":
                self.step = Step.CONNECTING
            case "connect_tcp" | "start_tls" | "setup_socks5_connection", "complete":
                self.step = Step.CONNECTED
                self._connection = info.get("return_value")

    async def close_unfinished(self) -> None:
        """Close a connection whose handshake failed: httpx leaves it open where the handshake is of SOCKS."""
        if self.step is Step.CONNECTING and self._connection:
            await self._connection.aclose()

    def classify(self, error: Exception) -> Exception:
        """The failure that `error` amounts to: one of `NOT_SENT` exactly where that is proven."""
        if isinstance(error, httpx.LocalProtocolError | httpx.InvalidURL | UnicodeError):
            return error
        if isinstance(error, TimeoutError):
            return self._timeout()
        if self.step is Step.SENDING:
            wrong = isinstance(error, NOT_SENT) or not isinstance(error, FAILURES)
            return httpx.ReadError(describe(error)) if wrong else error
        if self.step is Step.CONNECTING and not isinstance(error, NOT_SENT):
            return httpx.ConnectError(describe(error))
        return error if isinstance(error, FAILURES) else httpx.TransportError(describe(error))

    def _timeout(self) -> httpx.TimeoutException:
        """The time limit of a whole request, named by what it cut off."""
        kinds = {Step.QUEUED: httpx.PoolTimeout, Step.CONNECTING: httpx.ConnectTimeout}
        return kinds.get(self.step, httpx.ReadTimeout)("")


class Client(httpx.AsyncClient):
    """An `httpx.AsyncClient` whose failures are all `FAILURES`, and `NOT_SENT` only where nothing was sent.

    httpx lets some errors through as they are: of TLS after the handshake, of a SOCKS proxy that answers nonsense.
    """

    async def send(self, request: httpx.Request, **options: Any) -> Response:
        """Send a request. Raises `FAILURES`, `BAD_ADDRESS`."""
        progress: Progress = request.extensions.setdefault("trace", Progress())
        try:
            response = await super().send(request, **options)
        except Exception as error:
            failure = progress.classify(error)
            if failure is error:
                raise
            raise failure from error
        finally:
            await progress.close_unfinished()
        assert isinstance(response.stream, httpx.AsyncByteStream)
        response.stream = Body(response.stream)
        return response


class Body(httpx.AsyncByteStream):
    """The body of an answer while it arrives. Whatever interrupts it is one of `FAILURES`."""

    def __init__(self, stream: httpx.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._stream:
                yield chunk
        except FAILURES:
            raise
        except Exception as error:
            raise httpx.ReadError(describe(error)) from error

    async def aclose(self) -> None:
        await self._stream.aclose()


# --- clients ---------------------------------------------------------------------------------------------------------


def create_client() -> Client:
    """For requests that cost money: every one gets a new connection, since a kept one may be half dead."""
    return _client(AT_ONCE, kept=0, timeout=httpx.Timeout(None, connect=CONNECT_SECONDS, pool=CONNECT_SECONDS))


def api_client() -> Client:
    """For questions to the API, on kept connections. Follows no redirect: one would take the key to another host."""
    return _client(AT_ONCE, kept=AT_ONCE, timeout=httpx.Timeout(None, connect=CONNECT_SECONDS, pool=CONNECT_SECONDS))


def download_client(at_once: int) -> Client:
    """For at most `at_once` files at a time, byte for byte as they are stored. Follows redirects; knows no key."""
    timeout = httpx.Timeout(DOWNLOAD_SECONDS, connect=CONNECT_SECONDS)
    headers = {"Accept": "*/*", "Accept-Encoding": "identity"}
    return _client(at_once, kept=at_once, timeout=timeout, headers=headers, follow_redirects=True)


def _client(
    connections: int,
    *,
    kept: int,
    timeout: httpx.Timeout,
    headers: Mapping[str, str] = NO_HEADERS,
    follow_redirects: bool = False,
) -> Client:
    """Raises `UsageError` where the environment names a proxy or certificates that cannot be used."""
    try:
        return Client(
            verify=trusted_certificates(),
            limits=httpx.Limits(
                max_connections=connections, max_keepalive_connections=kept, keepalive_expiry=KEEP_ALIVE_SECONDS
            ),
            timeout=timeout,
            headers={"Accept": "application/json", "User-Agent": f"batchgen/{__version__}", **headers},
            # No request depends on what an earlier answer left behind.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            follow_redirects=follow_redirects,
        )
    except (ValueError, httpx.InvalidURL, ImportError) as error:
        schemes = sorted({proxy.partition("://")[0] for proxy in getproxies().values() if "://" in proxy})
        raise UsageError(
            f"a proxy that the environment names cannot be used (found: {', '.join(schemes) or 'no scheme'})."
            "\nSet HTTP_PROXY, HTTPS_PROXY and ALL_PROXY to addresses that begin with http://, https://, socks5:// or"
            " socks5h://, or unset them."
        ) from error


@cache
def trusted_certificates() -> ssl.SSLContext:
    """The certificates of the system, or of SSL_CERT_FILE or SSL_CERT_DIR. Shared: it takes 50 ms to read them."""
    try:
        return httpx.create_ssl_context()
    except OSError as error:
        place = os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR")
        raise UsageError(f"the certificates in {place} cannot be read: {error.strerror or error}") from error


# --- requests --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer. `body` is decoded."""

    status: int
    reason: str
    headers: Mapping[str, str]
    body: bytes
    key: str = field(default="", repr=False)
    """The key that was sent, to be taken out of what the service says."""

    def without_key(self, text: str) -> str:
        """`text` without the key: a service may repeat the one that it refuses."""
        return without_key(text, self.key)


@asynccontextmanager
async def open_request(
    client: Client,
    method: str,
    url: str,
    headers: Mapping[str, str] = NO_HEADERS,
    content: bytes | None = None,
    *,
    seconds: float,
) -> AsyncIterator[Response]:
    """Send a request; yields its answer with the body still to be read. All of it within `seconds`.

    Raises `FAILURES`, `BAD_ADDRESS`.
    """
    progress = Progress()
    try:
        async with (
            asyncio.timeout(seconds),
            client.stream(method, url, headers=headers, content=content, extensions={"trace": progress}) as response,
        ):
            yield response
    except TimeoutError as error:
        raise progress.classify(error) from error


async def exchange(
    client: Client,
    method: str,
    url: str,
    headers: Mapping[str, str] = NO_HEADERS,
    content: bytes | None = None,
    *,
    key: str = "",
    seconds: float,
) -> Answer:
    """Send a request, with the `key` if there is one, and read its whole answer within `seconds`.

    Raises `FAILURES`, `BAD_ADDRESS`.
    """
    if key:
        headers = {**headers, "Authorization": f"Bearer {key}"}
    body = bytearray()
    async with open_request(client, method, url, headers, content, seconds=seconds) as response:
        async for piece in response.aiter_bytes():
            body += piece
            if len(body) > BODY_BYTES_MAX:
                raise httpx.RemoteProtocolError(f"the answer is longer than {BODY_BYTES_MAX >> 20} MB")
    return Answer(response.status_code, response.reason_phrase, response.headers, bytes(body), key)


def submit_seconds(content: bytes) -> float:
    """How long a create with this body may take."""
    return SUBMIT_SECONDS + len(content) / UPLOAD_BYTES_PER_SECOND


def describe(error: Exception, key: str = "") -> str:
    """A failure in words. Shows no header of the request, and no `key`."""
    words: dict[type[Exception], str] = {
        httpx.ConnectTimeout: "no connection in time",
        httpx.ReadTimeout: "no answer in time",
        httpx.WriteTimeout: "the request could not be sent in time",
        httpx.PoolTimeout: "no free connection in time",
        httpx.LocalProtocolError: "the request has a header that HTTP does not allow",
        UnicodeEncodeError: "it has characters that cannot be sent",
    }
    if type(error) in words:
        return words[type(error)]
    cause = root_cause(error) if isinstance(error, httpx.ConnectError) else error
    return without_key(str(cause) or type(cause).__name__, key)[:REASON_CHARS_MAX]


def root_cause(error: BaseException) -> BaseException:
    """The error of the operating system below: the library says only that all attempts to connect failed."""
    while True:
        # The library passes on an error as the argument of its own.
        causes = error.exceptions if isinstance(error, BaseExceptionGroup) else (error.__cause__, *error.args[:1])
        below = next((cause for cause in causes if isinstance(cause, BaseException)), None)
        if below is None:
            return error
        error = below


def without_key(text: str, key: str) -> str:
    """`text` with the key blotted out."""
    return text.replace(key, "…") if key else text


# --- headers ---------------------------------------------------------------------------------------------------------


def parse_date(value: str) -> datetime | None:
    """A date in the form of an HTTP header (RFC 9110); None for anything else."""
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def clock_offset(answer: Answer, now: datetime) -> timedelta:
    """How far the server's clock is ahead of this machine's, by the Date header; zero where there is none."""
    date = parse_date(answer.headers.get("date", ""))
    return date - now if date else timedelta(0)


def retry_after(answer: Answer, now: datetime) -> timedelta | None:
    """The pause that a Retry-After header asks for, in seconds or until a date; between zero and a day."""
    value = answer.headers.get("retry-after", "").strip()
    try:
        seconds = float(value)
    except ValueError:
        date = parse_date(value)
        if date is None:
            return None
        seconds = (date - now).total_seconds()
    return timedelta(seconds=max(0.0, min(seconds, RETRY_AFTER_MAX.total_seconds())))
