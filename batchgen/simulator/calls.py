"""What every request to the service passes: latency, the key, the rate limit, and its record in the ledger; and the
answers that do not arrive as they should."""

import asyncio
import http
import re
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from batchgen.clock import utcnow
from batchgen.simulator.faults import Fault
from batchgen.simulator.ledger import RequestRecord, timestamp
from batchgen.simulator.service import SimulatedService

Query = TypeVar("Query", bound=BaseModel)
SLOW_CHUNKS = 20  # of a slow file: enough for a client to be killed in the middle
CLIENT_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


@dataclass(slots=True)
class Call:
    """A request to the simulator while it is answered."""

    service: SimulatedService
    request: Request
    record: RequestRecord
    """The ledger's row. The handler adds the model and the generation."""
    is_recorded: bool = False

    def query(self, model: type[Query], *repeated: str) -> Query:
        """The query parameters. Raises 400 for another one: no client takes an unfiltered list for a filtered one."""
        params = self.request.query_params
        try:
            return model.model_validate({**params, **{name: params.getlist(name) for name in repeated}})
        except ValidationError as error:
            fault = error.errors()[0]
            raise HTTPException(400, f"{fault['loc'][0]}: {fault['msg']}") from None

    def finish(self, status: int | None) -> None:
        """Record the request once, with the status of its answer or `None` where there is no whole answer."""
        if self.is_recorded:
            return
        self.is_recorded = True
        self.record.status = status
        if self.record.kind == "create" and status not in (None, 401):
            self.record.logged_at = self.service.logged_at()
        self.service.ledger.record(self.record)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An ASGI application for one route. `handler` answers, or raises `HTTPException`."""

    kind: str
    handler: Callable[[Call], Awaitable[ASGIApp]]
    needs_key: bool = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        service: SimulatedService = request.app.state.service
        request.state.record = self._record_of(request)
        call = Call(service, request, request.state.record)
        await asyncio.sleep(service.simulation.latency_seconds)
        try:
            if self.needs_key:
                service.check_key(request.headers.get("authorization", ""))
                service.check_rate("any", service.simulation.limits.requests_per_minute)
            answer = await self.handler(call)
        except HTTPException as error:
            call.finish(error.status_code)
            raise
        except ClientDisconnect:  # before the end of the request, so that nothing was requested
            answer = Silence("close")
        if isinstance(answer, Silence | Truncated):  # the client gets no whole answer
            call.finish(None)

        async def send_and_record(message: Message) -> None:
            if message["type"] == "http.response.start":
                call.finish(message["status"])
            await send(message)

        await answer(scope, receive, send_and_record)

    def _record_of(self, request: Request) -> RequestRecord:
        client_request_id = request.headers.get("x-client-request-id", "")
        key = request.headers.get("authorization", "").partition(" ")[2]
        return RequestRecord(
            at=timestamp(utcnow()),
            kind=self.kind,
            path=request.url.path,
            request_id=str(uuid.uuid4()),
            client_request_id=client_request_id if CLIENT_REQUEST_ID.fullmatch(client_request_id) else None,
            reserved_id=str(uuid.uuid4()) if self.kind == "create" else None,
            key=sha256(key.encode()).hexdigest()[:16] if key else "",
            key_leaked=self.kind == "cdn" and "authorization" in request.headers,
        )


@dataclass
class Silence:
    """No byte of an answer: a TCP reset, an end of the connection, or a stall for as long as the client waits."""

    ending: Literal["reset", "close", "stall"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        if self.ending == "reset":
            scope["state"]["connection"].reset()
        elif self.ending == "close":
            scope["state"]["connection"].cut()
        await wait_for_disconnect(receive)


@dataclass
class Truncated:
    """The first `bytes` of an answer that a fault has set, or else a share of it, then the end of the connection.

    With `headers_count` the bytes of the status line and the headers count; without, only those of the body.
    """

    whole: ASGIApp
    fault: Fault
    headers_count: bool

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        head, body = b"", b""

        async def collect(message: Message) -> None:
            nonlocal head, body
            if message["type"] == "http.response.start":
                status = f"HTTP/1.1 {message['status']} {http.HTTPStatus(message['status']).phrase}".encode()
                head = b"\r\n".join([status, *(b": ".join(header) for header in message["headers"]), b"", b""])
            body += message.get("body", b"")

        await self.whole(scope, receive, collect)
        uncounted, counted = (b"", head + body) if self.headers_count else (head, body)
        length = int(self.fault.choice * len(counted)) if self.fault.bytes is None else self.fault.bytes
        scope["state"]["connection"].cut(uncounted + counted[:length])
        await wait_for_disconnect(receive)


async def wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


@dataclass
class Slow:
    """A file whose whole body takes `seconds` real seconds; a range of it takes its share."""

    file: FileResponse
    seconds: float

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_late(message: Message) -> None:
            if message["type"] == "http.response.body":
                await asyncio.sleep(self.seconds / SLOW_CHUNKS)
            await send(message)

        self.file.chunk_size = -(-int(self.file.headers["content-length"]) // SLOW_CHUNKS)
        await self.file(scope, receive, send_late)
