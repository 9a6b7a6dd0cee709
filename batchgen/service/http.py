"""The one module that knows the HTTP client library: clients, time-outs, and what a failure proves.

Time-outs in seconds. At most 8 requests run at once per client: the pool's cost grows with the square of what waits in
it, so waiting is done in front of it, by `Gate`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import httpx

from batchgen import __version__

AT_ONCE = 8
CONNECT_SECONDS = 15.0
SUBMIT_SECONDS = 180.0  # a slow create is worth waiting for: giving up on it leaves a doubt
FETCH_SECONDS = 30.0
DOWNLOAD_SECONDS = 60.0  # without one byte
PAUSE_LONGEST_SECONDS = 86_400.0
USER_AGENT = f"batchgen/{__version__}"

Client = httpx.AsyncClient
Response = httpx.Response
TransportError = httpx.RequestError  # with a body that cannot be unpacked, and redirects without an end
InvalidURL = httpx.InvalidURL

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


def api_client() -> Client:
    """The client of the API: JSON, keep-alive, no redirects (one would take the key to another host)."""
    return httpx.AsyncClient(
        timeout=timeout(FETCH_SECONDS),
        limits=httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=AT_ONCE, keepalive_expiry=20),
        headers={"User-Agent": USER_AGENT, "Accept": "application/json"},
        follow_redirects=False,
    )


def download_client() -> Client:
    """The client of the file servers: knows no key, follows redirects, takes bytes as they lie on the disk there."""
    return httpx.AsyncClient(
        timeout=timeout(DOWNLOAD_SECONDS),
        limits=httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=AT_ONCE, keepalive_expiry=20),
        headers={"User-Agent": USER_AGENT, "Accept": "*/*", "Accept-Encoding": "identity"},
        follow_redirects=True,
        trust_env=True,
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


def retry_after(response: Response, now: datetime) -> timedelta | None:
    """What a Retry-After header asks for, seconds or a date: at most a day, whatever it says."""
    value = response.headers.get("retry-after", "").strip()
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            then = parsedate_to_datetime(value)
        except ValueError:
            return None
        seconds = ((then if then.tzinfo else then.replace(tzinfo=UTC)) - now).total_seconds()
    return timedelta(seconds=max(0.0, min(seconds, PAUSE_LONGEST_SECONDS)))


class Gate:
    """At most `AT_ONCE` requests in front of one client; submits pass before anything else."""

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(AT_ONCE)

    @asynccontextmanager
    async def passing(self) -> AsyncIterator[None]:
        async with self._free:
            yield
