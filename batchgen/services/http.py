"""Requests and their answers, over connections that are kept: time-outs, redirects, proxies, and what a failure proves.

Time-outs in seconds.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cache, lru_cache
from typing import Any, TypeAlias
from urllib.request import getproxies, proxy_bypass

# httpx brings a command line of its own, and does without where it cannot: it takes as long to import as all the rest.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]

import httpcore  # noqa: E402
import httpx  # noqa: E402
import httpx2  # noqa: E402

from batchgen import __version__  # noqa: E402
from batchgen.files.buffers import BUFFER_BYTES  # noqa: E402
from batchgen.services.connection import Connection  # noqa: E402
from batchgen.services.network import Network  # noqa: E402

CONNECT_SECONDS = 15.0
SUBMIT_SECONDS = 180.0  # a slow create is worth waiting for: giving up on it leaves a doubt
FETCH_SECONDS = 30.0
DOWNLOAD_SECONDS = 60.0  # without one byte
KEEP_SECONDS = 20.0  # an idle connection
PAUSE_LONGEST_SECONDS = 86_400.0
USER_AGENT = f"batchgen/{__version__}"

# What comes through a proxy goes the library's own way, 64 KiB at a time if it is not told.
httpcore.AsyncHTTP11Connection.READ_NUM_BYTES = BUFFER_BYTES

Way = str | httpcore.Origin
"""Where a connection leads: to a proxy, by its address, and from there anywhere; or straight to an origin."""
Proxied = httpcore.AsyncConnectionPool
Line = Connection | Proxied

PROXIES: Mapping[str, Callable[..., Proxied]] = {
    "http": httpcore.AsyncHTTPProxy,
    "https": httpcore.AsyncHTTPProxy,
    "socks5": httpcore.AsyncSOCKSProxy,
    "socks5h": httpcore.AsyncSOCKSProxy,
}
NO_HEADERS: Mapping[str, str] = {}
REDIRECTS_MAX = 20
ASKED = "asked"
"""Where an answer holds the headers of its request."""

Response: TypeAlias = Any
InvalidURL = httpx.InvalidURL

BAD_ADDRESS = (httpx2.InvalidURL, httpx.InvalidURL, UnicodeError, OverflowError)
"""What the library and those below it say of an address that is none: a host no resolver takes, a port above 65535."""

UNSENT = (
    httpcore.ConnectError,  # includes DNS and TLS
    httpcore.ConnectTimeout,
    httpcore.PoolTimeout,
    httpcore.ProxyError,
    httpcore.UnsupportedProtocol,
    httpcore.LocalProtocolError,
)
"""Failures that prove that not one byte of the request reached the service."""

FAILURES = (
    httpx2.HTTPError,
    *UNSENT,
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpx.RequestError,  # a body that cannot be unpacked, and redirects without an end
)


class Lines:
    """`at_once` connections kept alive, handed out last used first; a request waits while all are in use."""

    def __init__(self, at_once: int, headers: Mapping[str, str], *, seconds: float, follow: bool) -> None:
        self.headers = {"User-Agent": USER_AGENT, **headers}
        self.seconds = seconds
        self.follow = follow
        """Whether redirects are followed."""
        self._at_once = at_once
        self._free = asyncio.Semaphore(at_once)
        self._idle: list[tuple[Way, Line]] = []
        """Those that were used last at the end."""

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] = NO_HEADERS,
        content: bytes | None = None,
        seconds: float | None = None,
    ) -> AsyncIterator[Response]:
        """One request and its answer, whose body is still to be read; at most `seconds` pass without a byte."""
        told, within, where = {**self.headers, **headers}, timeouts(seconds or self.seconds), address(url)
        async with self._free:
            for _ in range(REDIRECTS_MAX):
                asked = request(method, where, told, content, within)
                way = proxy_for(where.scheme, where.host) or asked.url.origin
                connection = await self._take(way) or connect(way)
                try:
                    answer = await connection.handle_async_request(asked)
                    try:
                        response = httpx.Response(
                            answer.status,
                            headers=answer.headers,
                            stream=Body(answer.stream),
                            extensions={**answer.extensions, ASKED: told},
                        )
                        if not (self.follow and response.has_redirect_location):
                            yield response
                            return
                    finally:
                        await answer.aclose()
                finally:
                    await self._leave(way, connection)
                where = where.join(response.headers["location"])
            raise httpx.TooManyRedirects(f"{url} leads from address to address")

    async def _take(self, way: Way) -> Line | None:
        """One that is kept and still open. Of those that lead elsewhere a few are kept, too."""
        while found := next((each for each in reversed(self._idle) if each[0] == way), None):
            self._idle.remove(found)
            connection = found[1]
            if is_kept(connection):
                return connection
            await connection.aclose()
        while len(self._idle) >= self._at_once:
            await self._idle.pop(0)[1].aclose()
        return None

    async def _leave(self, way: Way, connection: Line) -> None:
        if is_kept(connection):
            self._idle.append((way, connection))
        else:
            await connection.aclose()

    async def close(self) -> None:
        """Let go of all connections."""
        while self._idle:
            await self._idle.pop()[1].aclose()


class Body(httpx.AsyncByteStream):
    """What is still to come of an answer."""

    def __init__(self, chunks: Any) -> None:
        self.chunks = chunks

    def __aiter__(self) -> AsyncIterator[bytes]:
        return aiter(self.chunks)


def request(
    method: str, where: httpx.URL, headers: Mapping[str, str], content: bytes | None, within: dict[str, Any]
) -> httpcore.Request:
    """Raises `UnsupportedProtocol`."""
    if where.scheme not in ("http", "https"):
        raise httpcore.UnsupportedProtocol(f"{where} is no address of http or https")
    told = [(b"Host", where.netloc), *((name.encode(), value.encode()) for name, value in headers.items())]
    if content is not None:
        told.append((b"Content-Length", str(len(content)).encode()))
    return httpcore.Request(method, core(where), headers=told, content=content, extensions=within)


def is_kept(line: Line) -> bool:
    """Whether it may take another request. A way through a proxy sees to its own connections."""
    return isinstance(line, Proxied) or line.is_kept


def connect(way: Way) -> Line:
    """A connection that is opened when it is needed. Raises `ProxyError`."""
    if isinstance(way, httpcore.Origin):
        return Connection(way, trust(), KEEP_SECONDS)
    where = httpx.URL(way)
    known = (where.username.encode(), where.password.encode()) if where.username else None
    kept = {"max_connections": 1, "keepalive_expiry": KEEP_SECONDS, "network_backend": Network()}
    try:
        return PROXIES[where.scheme](core(where), known, ssl_context=trust(), **kept)
    except (KeyError, RuntimeError) as error:  # a kind of proxy that there is not, or that needs a package more
        raise httpcore.ProxyError(f"the proxy that the environment names: {error}") from error


def api_lines(at_once: int) -> Lines:
    """To the API: JSON, no redirects (one would take the key to another host)."""
    wanted = {"Accept": "application/json", "Accept-Encoding": "gzip, deflate"}
    return Lines(at_once, wanted, seconds=FETCH_SECONDS, follow=False)


def download_lines(at_once: int) -> Lines:
    """To the file servers: no key, redirects followed, bytes as they lie on the disk there."""
    wanted = {"Accept": "*/*", "Accept-Encoding": "identity"}
    return Lines(at_once, wanted, seconds=DOWNLOAD_SECONDS, follow=True)


@cache
def trust() -> ssl.SSLContext:
    """The certificates that are trusted: 16 ms to read, so once for all."""
    trusted = httpx.create_ssl_context()
    trusted.set_alpn_protocols(["http/1.1"])
    return trusted


@cache
def timeouts(seconds: float) -> dict[str, dict[str, float | None]]:
    """How long each part of a request may take, as the transport is told it."""
    return {"timeout": httpx.Timeout(seconds, connect=CONNECT_SECONDS, pool=CONNECT_SECONDS).as_dict()}


@lru_cache
def address(url: str) -> httpx.URL:
    """Raises `BAD_ADDRESS`."""
    return httpx.URL(url)


def core(url: httpx.URL) -> httpcore.URL:
    """The same for the library below."""
    return httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)


@lru_cache
def proxy_for(scheme: str, host: str) -> str | None:
    """The proxy that the environment names for a host (HTTPS_PROXY, NO_PROXY and so on)."""
    named = getproxies()
    proxy = named.get(scheme) or named.get("all")
    if not proxy or proxy_bypass(host):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def reason_of(error: Exception) -> str:
    """A transport failure in words; never holds a header, so never the key."""
    named: dict[type[Exception], str] = {
        httpcore.ConnectTimeout: "no connection in time",
        httpcore.ReadTimeout: "no answer in time",
        httpcore.WriteTimeout: "the request could not be sent in time",
        httpcore.PoolTimeout: "no free connection in time",
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


class DownloadClient(httpx2.AsyncClient):
    async def send(self, *args: Any, **kwargs: Any) -> httpx2.Response:
        try:
            return await super().send(*args, **kwargs)
        except (httpx2.HTTPError, httpx2.InvalidURL, UnicodeError):
            raise
        except Exception as error:
            raise httpx2.ReadError(str(error)) from error


def download_client(at_once: int) -> httpx2.AsyncClient:
    return DownloadClient(
        headers={"User-Agent": USER_AGENT, "Accept": "*/*", "Accept-Encoding": "identity"},
        timeout=httpx2.Timeout(DOWNLOAD_SECONDS, connect=CONNECT_SECONDS),
        limits=httpx2.Limits(max_connections=at_once, max_keepalive_connections=at_once),
        follow_redirects=True,
        verify=trust(),
    )


def describe(error: Exception) -> str:
    return str(error) or type(error).__name__
