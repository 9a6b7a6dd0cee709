"""HTTP by httpx2: its clients, how far a request has come and which failure it amounts to, whole answers.

Only `client.py` (to the API) and `file_server.py` (to file servers) send requests, through this module.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
import zlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any

import httpx2 as httpx

from batchgen import __version__
from batchgen.errors import UsageError, os_reason
from batchgen.services.failures import (
    BAD_ADDRESS,
    FAILURES,
    NOT_SENT,
    REASON_CHARS_MAX,
    IncompleteBody,
    Outdated,
    describe,
)
from batchgen.services.send_time import is_too_late
from batchgen.services.text import body_without_key, one_line, without_key

CONNECT_SECONDS = 15.0  # for TCP and again for TLS; a server that is up answers within one round trip
POOL_SECONDS = 15.0  # for a connection of the pool; there are no more requests than connections, so none waits
SUBMIT_SECONDS = 180.0  # a slow create is worth waiting for: nobody knows whether one that was given up is charged
UPLOAD_BYTES_PER_SECOND = 100_000  # a create may take longer, by its size at the rate of a slow line
QUESTION_SECONDS = 30.0  # a whole question with its answer; a poll is asked again anyway
BODY_BYTES_MAX = 16 << 20  # of a decoded JSON answer, as a few kB may be gigabytes; a page of 100 rows has some 100 kB
ENCODINGS = {"gzip": zlib.MAX_WBITS | 16, "x-gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}
"""The encodings that an answer may have, with zlib's parameter for each: their decoder can be told where to stop."""
KEEP_ALIVE_SECONDS = 20.0  # below the idle time-outs of common load balancers (60 s)
HANDSHAKES = frozenset({"connect_tcp", "start_tls", "setup_socks5_connection"})  # the trace events before a request

for library in ("httpx2", "httpcore2"):  # They log reason phrases and headers, in which a server may repeat the key.
    logging.getLogger(library).setLevel(logging.WARNING)
Response = httpx.Response


class RequestProgress:
    """How far one request has come, by the trace events of httpx (its documented `trace` extension).

    Their names may change with the library, so an event that is not recognized never proves that nothing was sent.
    """

    def __init__(self) -> None:
        self._connecting = self._sent = False
        self._connection: Any = None

    async def __call__(self, event: str, info: Mapping[str, Any]) -> None:
        name, _, phase = event.rpartition(".")
        name = name.rpartition(".")[2]
        if name in HANDSHAKES:
            self._connecting = phase != "complete" and not self._sent
            self._connection = info.get("return_value", self._connection)
        elif (name, phase) == ("send_request_headers", "started"):
            # CONNECT asks a proxy for a tunnel, through which the request itself follows.
            is_tunnel = getattr(info.get("request"), "method", None) == b"CONNECT"
            if is_too_late():
                raise Outdated("the process was stopped for too long before the request left")
            self._sent = self._sent or not is_tunnel
            self._connecting = not self._sent

    @asynccontextmanager
    async def classifying(self) -> AsyncIterator[None]:
        """Turn every exception into one of `FAILURES` or `BAD_ADDRESS`, as `classify` does."""
        try:
            yield
        except Exception as error:
            if (failure := self.classify(error)) is not error:
                raise failure from error
            raise
        finally:
            if self._connecting and self._connection:  # httpx leaves that to a SOCKS proxy open which refused
                await self._connection.aclose()

    def classify(self, error: Exception) -> Exception:
        """The failure that `error` amounts to: one of `NOT_SENT` exactly where that is proven.

        httpx lets some errors through as they are: of TLS after the handshake, of a SOCKS proxy that answers nonsense.
        """
        if isinstance(error, httpx.LocalProtocolError):
            return error
        if isinstance(error, TimeoutError):  # the time limit of the whole request
            return httpx.ConnectTimeout("") if self._connecting else httpx.ReadTimeout("")
        if self._sent:
            is_plain = isinstance(error, FAILURES) and not isinstance(error, NOT_SENT)
            return error if is_plain else httpx.ReadError(describe(error))
        if self._connecting:
            return error if isinstance(error, NOT_SENT) else httpx.ConnectError(describe(error))
        return error if isinstance(error, FAILURES + BAD_ADDRESS) else httpx.TransportError(describe(error))


class NoCookies(CookieJar):
    """Reads no cookie: no request depends on an earlier answer, and the library prints a traceback for an odd one."""

    def extract_cookies(self, response: Any, request: Any) -> None: ...


class Client(httpx.AsyncClient):
    """A client for so many requests at one time. What sends by it does so in `RequestProgress.classifying`."""

    free_connections: asyncio.Semaphore
    """A request waits here, before its time limit runs, and not in the library's pool of connections."""


@lru_cache(1024)
def destination_of(url: str) -> tuple[str, str, int | None]:
    """Scheme, host and port of an address, as the library that sends reads it. Raises `BAD_ADDRESS`."""
    parsed = httpx.URL(url)
    return parsed.scheme, parsed.host, parsed.port


def new_client(connections: int, *, kept: int = 0, seconds: float | None = None) -> Client:
    """A client that waits `seconds` for each piece. It follows no redirect, which would take the key to another host.

    Raises `UsageError` for a proxy or certificates that it cannot use.
    """
    try:
        client = Client(
            verify=trusted_certificates(),
            limits=httpx.Limits(
                max_connections=connections, max_keepalive_connections=kept, keepalive_expiry=KEEP_ALIVE_SECONDS
            ),
            timeout=httpx.Timeout(seconds, connect=CONNECT_SECONDS, pool=POOL_SECONDS),
            headers={
                "Accept": "application/json",
                "Accept-Encoding": "gzip",
                "Cache-Control": "no-cache",  # A proxy must not repeat how a generation was doing a minute ago.
                "User-Agent": f"batchgen/{__version__}",
            },
            cookies=NoCookies(),
        )
    except (ValueError, httpx.InvalidURL) as error:
        # The message of the library would show a proxy's password.
        raise UsageError(
            "the environment names a proxy that cannot be used."
            "\nLet HTTP_PROXY, HTTPS_PROXY and ALL_PROXY begin with http://, https://, socks5:// or socks5h://."
        ) from error
    client.free_connections = asyncio.Semaphore(connections)
    return client


@cache
def trusted_certificates() -> ssl.SSLContext:
    """The certificates of the system, or of SSL_CERT_FILE or SSL_CERT_DIR. Shared: it takes 50 ms to read them."""
    file = os.environ.get("SSL_CERT_FILE")
    try:
        if file and Path(file).exists() and not Path(file).is_file():  # a named pipe would be waited for
            raise OSError("this is not a regular file")
        return httpx.create_ssl_context()
    except OSError as error:
        place = file or os.environ.get("SSL_CERT_DIR") or "the system's store"
        raise UsageError(f"the certificates in {place} cannot be read: {os_reason(error)}") from error


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer, its body decoded, without the key. Names of `headers` are in lower case."""

    status: int
    reason: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300

    @property
    def is_whole(self) -> bool:
        """Whether what was asked for is in it, and all of that. A proxy that has altered an answer makes it a 203."""
        return self.status in (200, 203)


async def read_answer(response: Response, api_key: str) -> Answer:
    """The whole answer, from which the key is blotted out. Raises `FAILURES`."""
    body = await read_body(response)
    return Answer(
        response.status_code,
        one_line(without_key(response.reason_phrase, api_key), REASON_CHARS_MAX),
        {name.lower(): without_key(value, api_key) for name, value in response.headers.items()},
        body_without_key(body, api_key),
    )


async def read_body(response: Response) -> bytes:
    """The decoded body, of at most `BODY_BYTES_MAX`. Raises `IncompleteBody` where it cannot be had whole."""
    body, decoder = bytearray(), decoder_of(response.headers.get("content-encoding", "").strip().lower())
    async for piece in response.aiter_raw():
        try:
            # zlib takes 0 for "no limit"; here it is at least 1.
            body += decoder.decompress(piece, BODY_BYTES_MAX + 1 - len(body)) if decoder else piece
        except zlib.error as error:
            raise IncompleteBody(f"the answer is not in the encoding that it names: {error}") from None
        if len(body) > BODY_BYTES_MAX:
            raise IncompleteBody(f"the answer is longer than {BODY_BYTES_MAX >> 20} MB")
    if decoder and body and not decoder.eof:
        raise IncompleteBody("the answer's encoding ends early")
    return bytes(body)


def decoder_of(encoding: str) -> Any:
    """What decodes a body; None where it is not encoded."""
    if encoding in ("", "identity"):
        return None
    if encoding not in ENCODINGS:
        raise IncompleteBody(f"the answer has an encoding that was not asked for: {encoding!r}")
    return zlib.decompressobj(ENCODINGS[encoding])
