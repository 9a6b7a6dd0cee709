"""What every call passes through: latency, the key, the rate, and the trail of requests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

from starlette.requests import Request
from starlette.responses import Response

from batchgen.simulator.answers import Broken, path, refuse, request_id
from batchgen.simulator.identity import client_request_id
from batchgen.simulator.ledger import Entry, text
from batchgen.simulator.limits import retry_after
from batchgen.simulator.studio import Studio, studio

Handler = Callable[[Studio, Request], Awaitable[Response]]
Endpoint = Callable[[Request], Awaitable[Response]]


def keyed(kind: str, handler: Handler) -> Endpoint:
    """A route that only a right key may call."""

    async def admit(service: Studio, request: Request) -> Response:
        if not service.account.knows(request.headers.get("authorization")):
            return refuse(request, 401, "Invalid API key. You can get a key in your account.")
        wait = service.account.requests.pass_or_wait()
        if wait is not None:
            return throttle(request, wait, service.clock.speed)
        return await handler(service, request)

    return public(kind, admit)


def public(kind: str, handler: Handler) -> Endpoint:
    """A route that anybody may call."""

    async def endpoint(request: Request) -> Response:
        service = studio(request)
        if service.simulation.latency_seconds:
            await asyncio.sleep(service.simulation.latency_seconds)
        response = await handler(service, request)
        if not request.scope["state"].get("noted"):
            status = None if isinstance(response, Broken) else response.status_code
            service.ledger.note(entry(service, request, kind, status))
        return response

    return endpoint


def entry(service: Studio, request: Request, kind: str, status: int | None) -> Entry:
    """The trail's row for a request. Of a create that failed the log tells as well, but not of one without a key."""
    state = request.scope["state"]
    now = service.clock.now()
    row = Entry(
        text(now),
        kind,
        request.method,
        path(request),
        status,
        request_id(request),
        client_request_id(request.headers.get("x-client-request-id")),
        state.get("generation_id"),
        state.get("model"),
        kind == "cdn" and "authorization" in request.headers,
    )
    if kind == "create" and status is not None and status != 401:
        return row._replace(logged_at=text(now + service.clock.lasts(service.simulation.lag_seconds)))
    return row


def throttle(request: Request, wait: timedelta | None, speed: float = 1.0) -> Response:
    """429, with Retry-After where a wait is told; one of a service whose time is compressed by `speed` is so too."""
    headers = {"retry-after": retry_after(wait, speed)} if wait is not None else None
    return refuse(request, 429, "Too many requests. Slow down and try again.", headers)
