"""The one module that knows the HTTP client library: clients, time-outs, and what a failure proves.

Time-outs in seconds. At most 8 requests of one purpose run at once: a pool's cost grows with the square of what waits
in it, so waiting is done in front of it, by `Lines`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from batchgen import __version__

AT_ONCE = 8
CONNECT_SECONDS = 15.0
SUBMIT_SECONDS = 180.0  # a slow create is worth waiting for: giving up on it leaves a doubt
FETCH_SECONDS = 30.0
DOWNLOAD_SECONDS = 60.0  # without one byte
KEEP_SECONDS = 20.0  # an idle connection
PAUSE_LONGEST_SECONDS = 86_400.0
USER_AGENT = f"batchgen/{__version__}"

Client = httpx.AsyncClient
Response = httpx.Response
TransportError = httpx.RequestError  # with a body that cannot be unpacked, and redirects without an end
InvalidURL = httpx.InvalidURL

BAD_ADDRESS = (httpx.InvalidURL, UnicodeError, OverflowError, ExceptionGroup)
"""What the library and those below it say of an address that is none: a host no resolver takes, a port above 65535."""

UNSENT = (
    httpx.ConnectError,  # includes DNS and TLS
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
    httpx.LocalProtocolError,
)
"""Failures that prove that not one byte of the request reached the service."""


def timeout(read: float) -> httpx.Timeout:
    """Time-outs of one request: `read` seconds without an answer."""
    return httpx.Timeout(read, connect=CONNECT_SECONDS, pool=CONNECT_SECONDS)


class Lines:
    """`AT_ONCE` connections kept alive, each a client of its own, handed out last used first.

    One client's pool of eight looks over all its connections for every request; eight clients of one do not, and that
    takes a third off what a request costs.
    """

    def __init__(self, **settings: Any) -> None:
        self._settings = settings
        self._trust = httpx.create_ssl_context()
        self._idle: list[Client] = []
        self._free = asyncio.Semaphore(AT_ONCE)

    @asynccontextmanager
    async def line(self) -> AsyncIterator[Client]:
        """A client for one request at a time; waits for one while all are in use."""
        async with self._free:
            client = self._idle.pop() if self._idle else self._open()
            try:
                yield client
            finally:
                self._idle.append(client)

    def _open(self) -> Client:
        one = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=KEEP_SECONDS)
        return httpx.AsyncClient(verify=self._trust, limits=one, **self._settings)

    async def close(self) -> None:
        for client in self._idle:
            await client.aclose()
        self._idle.clear()


def api_lines() -> Lines:
    """To the API: JSON, no redirects (one would take the key to another host)."""
    return Lines(
        timeout=timeout(FETCH_SECONDS),
        headers={"User-Agent": USER_AGENT, "Accept": "application/json"},
        follow_redirects=False,
    )


def download_lines() -> Lines:
    """To the file servers: no key, redirects followed, bytes as they lie on the disk there."""
    return Lines(
        timeout=timeout(DOWNLOAD_SECONDS),
        headers={"User-Agent": USER_AGENT, "Accept": "*/*", "Accept-Encoding": "identity"},
        follow_redirects=True,
    )


def reason_of(error: Exception) -> str:
    """A transport failure in words; never holds a header, so never the key."""
    named: dict[type[Exception], str] = {
        httpx.ConnectTimeout: "no connection in time",
        httpx.ReadTimeout: "no answer in time",
        httpx.WriteTimeout: "the request could not be sent in time",
        httpx.PoolTimeout: "no free connection in time",
    }
    return named.get(type(error)) or str(error) or type(error).__name__


def date_in(value: str) -> datetime | None:
    """A date as HTTP writes it."""
    try:
        then = parsedate_to_datetime(value)
    except ValueError:
        return None
    return then if then.tzinfo else then.replace(tzinfo=UTC)


def ahead(response: Response, now: datetime) -> timedelta:
    """How far the server's clock is before this machine's; nothing where it does not say."""
    then = date_in(response.headers.get("date", ""))
    return then - now if then else timedelta(0)


def retry_after(response: Response, now: datetime) -> timedelta | None:
    """What a Retry-After header asks for, seconds or a date: at most a day, whatever it says."""
    value = response.headers.get("retry-after", "").strip()
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        then = date_in(value)
        if then is None:
            return None
        seconds = (then - now).total_seconds()
    return timedelta(seconds=max(0.0, min(seconds, PAUSE_LONGEST_SECONDS)))
