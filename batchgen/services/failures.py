"""Failed requests: what each kind of failure proves, and how it is told."""

from __future__ import annotations

import os
import re

import httpx2 as httpx

from batchgen.errors import os_reason
from batchgen.services.text import one_line, without_key

REASON_CHARS_MAX = 2_000  # of the text of a failure, which may quote what a server sent
IncompleteBody = httpx.RemoteProtocolError  # less came than was told


class Refused(httpx.RequestError):
    """This side does not follow where an answer leads."""


class OtherOrigin(httpx.UnsupportedProtocol):
    """The address is not at the API, so that nothing is sent there."""


class Outdated(httpx.LocalProtocolError):
    """The request was not sent in time: the process or the machine was stopped."""


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

DESCRIPTIONS: dict[type[Exception], str] = {
    httpx.ConnectTimeout: "no connection in time",
    httpx.ReadTimeout: "no answer in time",
    httpx.WriteTimeout: "the request could not be sent in time",
    httpx.PoolTimeout: "no free connection in time",
    httpx.LocalProtocolError: "the request has a header that HTTP does not allow",
    UnicodeEncodeError: "it has characters that cannot be sent",
}
"""Failures of which the library says nothing, or nothing that a person reads."""
CALL_FAILED = re.compile(r"Connect call failed \('([^']+)', (\d+)")
"""What asyncio says in place of the system's words, with the address that it has tried."""
BYTES = re.compile(r"bytearray\(b(.*)\)")  # around what h11 quotes of an answer


def describe(error: Exception, api_key: str = "") -> str:
    """A failure in words. Shows no header of the request, and no `api_key`."""
    if type(error) in DESCRIPTIONS:
        return DESCRIPTIONS[type(error)]
    cause = root_cause(error) if isinstance(error, httpx.ConnectError) or not str(error) else error
    reason = BYTES.sub(r"\1", os_reason(cause) or type(cause).__name__)
    if isinstance(cause, OSError) and cause.errno and (peer := CALL_FAILED.match(reason)):
        host, port = f"[{peer[1]}]" if ":" in peer[1] else peer[1], peer[2]
        reason = f"nobody answers at {host}:{port}: {os.strerror(cause.errno).lower()}"
    return one_line(without_key(reason, api_key), REASON_CHARS_MAX)


def root_cause(error: BaseException) -> BaseException:
    """The error of the operating system below: the library says that all attempts to connect failed, or nothing."""
    # The library passes on an error as the argument of its own.
    causes = error.exceptions if isinstance(error, BaseExceptionGroup) else (error.__cause__, *error.args[:1])
    return next((root_cause(cause) for cause in causes if isinstance(cause, BaseException)), error)
