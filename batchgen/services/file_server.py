"""Requests to file servers, which no key ever reaches, and what an answer says about the file.

The address of a file comes from outside. No redirect leads from https to http, and a service on the internet cannot
lead into the private network of whoever runs this.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import cache
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from batchgen.services import failures, http

HEAD_SECONDS = 60.0  # until the head of an answer is there, whole
PIECE_SECONDS = 60.0  # between two pieces of a file; a whole file may take hours
SLOWEST_BYTES = 32 << 10  # in `PIECE_SECONDS`: a server that sends less holds up a connection on purpose
REDIRECTS_MAX = 10
SIZE_DIGITS_MAX = 18  # of a size in a header: an exabyte; longer numbers are not believed


def client(at_once: int) -> http.Client:
    """For at most `at_once` files at a time, byte for byte as they are stored. Raises `UsageError`, see `http.py`."""
    client = http.new_client(at_once, kept=at_once, seconds=PIECE_SECONDS)
    client.headers.update({"Accept": "*/*", "Accept-Encoding": "identity"})
    return client


class FileProgress(http.RequestProgress):
    """Refuses a connection into a private network, unless the service at `base_url` is in a private network itself.

    The address is judged when the connection stands and nothing was sent: a name may mean another address each time.
    """

    def __init__(self, base_url: str) -> None:
        super().__init__()
        self._base_url, self._host = base_url, ""

    async def __call__(self, event: str, info: Mapping[str, Any]) -> None:
        await super().__call__(event, info)
        if event.endswith("connect_tcp.started"):
            self._host = str(info.get("host"))
        elif event.endswith("connect_tcp.complete") and self._host not in proxies():
            stream = info["return_value"]
            address = str(stream.get_extra_info("server_addr")[0])
            if is_private(address) and not await leads_to_private(self._base_url):
                await stream.aclose()
                raise failures.Refused(f"{self._host} is {address}, which is not on the internet: not followed")


@cache
def proxies() -> frozenset[str | None]:
    """The hosts of the proxies that the environment names."""
    return frozenset(urlsplit(address).hostname for address in getproxies().values())


def is_private(address: str) -> bool:
    """Whether an IP address is of this machine or of a private network."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        parsed = parsed.ipv4_mapped or parsed
    return not parsed.is_global


async def leads_to_private(url: str) -> bool:
    """Whether the host of an address is on this machine or in a private network, as far as names can be resolved."""
    try:
        host = urlsplit(url).hostname
        if not host:
            return False
        hosts = await asyncio.get_running_loop().getaddrinfo(host, 0, type=socket.SOCK_STREAM)
    except (OSError, ValueError):  # `ValueError`: the host is no name
        return False
    return any(is_private(str(host[4][0])) for host in hosts)


@asynccontextmanager
async def open_file(
    client: http.Client, url: str, headers: Mapping[str, str], base_url: str, method: str = "GET"
) -> AsyncIterator[http.Response]:
    """The answer for a file, behind redirects, of which no body is read. `base_url` is of the service that named it.

    Raises `FAILURES`, `BAD_ADDRESS`.
    """
    progress = FileProgress(base_url)
    request = client.build_request(method, url, headers=headers, extensions={"trace": progress})
    for _ in range(1 + REDIRECTS_MAX):
        async with progress.classifying(), asyncio.timeout(HEAD_SECONDS):
            response = await client.send(request, stream=True)
        try:
            if not response.has_redirect_location:
                yield response
                return
            if response.next_request is None:
                raise failures.Refused(f"{request.url.host} leads to what is no address")
            if request.url.scheme == "https" != response.next_request.url.scheme:
                raise failures.Refused(f"{request.url.host} leads from https to {response.next_request.url.scheme}")
            request = response.next_request
        finally:
            await response.aclose()
    raise failures.Refused(f"more than {REDIRECTS_MAX} redirects")


async def stream_body(response: http.Response) -> AsyncIterator[bytes]:
    """The body as it is sent, in pieces as they arrive. Raises `FAILURES`, also where they come too slowly."""
    time = asyncio.get_running_loop().time
    received, since = 0, time()
    progress: FileProgress = response.request.extensions["trace"]
    async with progress.classifying():
        async for piece in response.aiter_raw():
            yield piece
            received += len(piece)
            if time() - since >= PIECE_SECONDS:
                if received < SLOWEST_BYTES:
                    raise failures.IncompleteBody(f"only {received} bytes came in {PIECE_SECONDS:.0f} s")
                received, since = 0, time()


class NoFile(Exception):
    """The answer has no file, and a later one may; `str(error)` says why."""


class Expired(Exception):
    """The file server does not know this address, or not any more."""


class VersionChanged(Exception):
    """The bytes on the disk are not the beginning of the file that the server has now."""


def whole_size(response: http.Response, size: int, etag: str | None) -> int | None:
    """The size of the whole file, as the answer gives it; None if it does not.

    Raises `VersionChanged` if it does not continue `size` bytes of version `etag`, `Expired`, `NoFile`.
    """
    status = f"{response.status_code} {response.reason_phrase}"
    span = response.headers.get("content-range", "")
    total = as_size(span.rpartition("/")[2])
    is_same_version = validator(response) in (None, etag)
    match response.status_code:
        case 200:
            return as_size(response.headers.get("content-length", ""))
        case 206 if is_same_version and span.startswith(f"bytes {size}-"):
            return total
        case 416 if total == size:
            return total
        case 206 | 416:
            raise VersionChanged
        case 401 | 403 | 404 | 410:
            raise Expired(status)
    raise NoFile(f"the file server answers {status}")


def validator(response: http.Response) -> str | None:
    """What names this version of the file in an If-Range header (RFC 9110): a strong ETag, else the date."""
    etag = response.headers.get("etag", "")
    return etag if etag.startswith('"') else response.headers.get("last-modified") or None


def as_size(text: str) -> int | None:
    """A size in a header; None if it is not a plausible one."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= SIZE_DIGITS_MAX else None
