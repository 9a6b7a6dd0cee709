"""What goes back to the client: JSON, the service's error bodies, and answers that break off."""

from __future__ import annotations

import http
import json
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from batchgen.clock import utcnow
from batchgen.simulator.connection import connection, gone

_JSON = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)  # made once: to make one takes longer than its work


def stamp(moment: datetime) -> str:
    """A moment as the service writes it: ISO 8601, UTC, milliseconds, Z."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def answer(content: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """JSON."""
    return Response(_JSON.encode(content), status, headers, "application/json")


def refuse(request: Request, status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """An error, in the one body all of the service's errors have."""
    content = {
        "message": message,
        "path": path(request),
        "requestId": request_id(request),
        "statusCode": status,
        "timestamp": stamp(utcnow()),
    }
    return answer(content, status, headers)


def path(request: Request) -> str:
    """The path as it was asked for; `request.url` would parse the whole address."""
    found: str = request.scope["path"]
    return found


def request_id(request: Request) -> str:
    """The service's own id of this request."""
    if "request_id" not in request.scope["state"]:
        request.scope["state"]["request_id"] = str(uuid.uuid4())
    found: str = request.scope["state"]["request_id"]
    return found


class Broken(Response):
    """An answer that never comes whole. Its `status_code` is not what the client sees."""

    def __init__(self) -> None:
        super().__init__()


class Dropped(Broken):
    """The connection ends without an answer: with a reset, or as if the service had closed it."""

    def __init__(self, *, reset: bool) -> None:
        super().__init__()
        self.reset = reset

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        if self.reset:
            connection(scope).reset()
        else:
            connection(scope).cut()
        await gone(receive)


class Stalled(Broken):
    """Nothing, for as long as the client waits."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        await gone(receive)


class Truncated(Broken):
    """The first `length` bytes of an answer: of status line, headers and body together."""

    def __init__(self, whole: Response, length: int) -> None:
        super().__init__()
        self.whole = whole
        self.length = length

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        connection(scope).cut(raw(self.whole)[: self.length])
        await gone(receive)


def raw(response: Response) -> bytes:
    """A whole answer as it goes over the wire."""
    phrase = http.HTTPStatus(response.status_code).phrase
    lines = [f"HTTP/1.1 {response.status_code} {phrase}".encode()]
    lines += [name + b": " + value for name, value in response.raw_headers]
    return b"\r\n".join([*lines, b"", b""]) + bytes(response.body)
