"""The review page served on this machine: verdicts go straight into the job table.

Only who knows the address may read or judge: it has a random token. A request under another host's name (DNS rebinding)
or from another page is refused.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import secrets
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from anyio import to_thread
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn import Config, Server
from uvicorn.protocols.http.h11_impl import H11Protocol

from batchgen import clock
from batchgen.errors import NO_DESCRIPTORS, BatchgenError, StorageError, os_reason
from batchgen.files.outputs import OutputFolder
from batchgen.files.safe_open import UnsafePath
from batchgen.files.verdicts_file import judged_clip
from batchgen.jobtable import clips, moves, verdicts
from batchgen.jobtable.batches import StoredBatch
from batchgen.jobtable.clips import ClipFile, Marks
from batchgen.jobtable.database import Database
from batchgen.review.page import policy, read_changes, read_page, read_whole, render
from batchgen.review.posters import PosterSource
from batchgen.review.video import video_response

ROW_MAX = 2**31 - 1  # of a row id in PostgreSQL
PATH_CHARS = 200  # of an address: the token, and numbers of ten digits
REQUEST_SECONDS = 10.0  # until a request is there whole: a browser opens connections that it never uses
BACKLOG = 32  # connections that wait to be taken, and are taken at once
BODY_BYTES = 10_000  # of a verdict; an id has at most some hundred characters
HEADERS = {
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cross-origin-resource-policy": "same-origin",
    "x-frame-options": "DENY",
    "cache-control": "no-store",
}
POSTER_HEADERS = {"cache-control": "private, max-age=86400"}  # a poster belongs to the content of a clip


class Review:
    """A batch under review: its job table and its folder."""

    def __init__(self, database: Database, batch: StoredBatch, folder: Path, names: Sequence[str]) -> None:
        """`names` are the hosts under which a browser may ask; their ports do not matter, as a tunnel has another."""
        self.database, self.batch = database, batch
        self.outputs, self.posters = OutputFolder(folder), PosterSource(folder)
        self.names = list(names)
        self.token = secrets.token_urlsafe(24)

    async def page(self, _request: Request) -> Response:
        page = await self.database.read(read_page, self.batch)
        html = await to_thread.run_sync(render, page, page.document)
        allowed = policy(media="'self'", connect="'self'")
        headers = {"content-security-policy": f"{allowed}; frame-ancestors 'none'"}
        return HTMLResponse(html.encode("utf-8", "replace"), headers=headers)

    async def video(self, request: Request) -> Response:
        """A delivered file. Its path is judged again here, and no link is followed."""
        file = await self.delivered_file(request, request.path_params["place"])
        try:
            return await to_thread.run_sync(video_response, self.outputs, file.path, file.bytes, request)
        except (OSError, UnsafePath):
            raise HTTPException(404) from None

    async def delivered_file(self, request: Request, place: int) -> ClipFile:
        """A file of the job in an address, counted from 1. Raises 404 where there is none."""
        file = await self.database.read(clips.find_file, self.batch.id, row_of(request), place)
        if file is None:
            raise HTTPException(404)
        return file

    async def show_poster(self, request: Request) -> Response:
        """The poster of a job's first delivered file, made now where there is none yet."""
        poster = await self.posters.poster(await self.delivered_file(request, 1))
        if not poster:
            return Response(status_code=204)  # a clip that does not decode is no fault of the page
        return Response(poster, headers=POSTER_HEADERS, media_type="image/webp")

    async def job(self, request: Request) -> Response:
        """The texts of a job that its card shows cut."""
        texts = await self.database.read(read_whole, self.batch.id, row_of(request))
        if texts is None:
            raise HTTPException(404)
        return JSONResponse(texts)

    async def changes(self, request: Request) -> Response:
        """The jobs that have changed since the marks of the page."""
        try:
            event, verdict, measured_at = json.loads(request.query_params.get("marks", ""))
            marks = Marks(int(event), int(verdict), str(measured_at))
            document = await self.database.read(read_changes, self.batch.id, marks)
        except (ValueError, TypeError, OverflowError, RecursionError):
            raise HTTPException(400) from None
        return JSONResponse(document)

    async def take_verdict(self, request: Request) -> Response:
        """Store a verdict on the clip that the page has shown. 409 where the job has another one by now, or its batch
        another table."""
        if request.headers.get("origin") not in (None, f"http://{request.headers.get('host')}"):
            raise HTTPException(403)
        if request.headers.get("content-type", "").partition(";")[0] != "application/json":
            raise HTTPException(415)
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > BODY_BYTES:
                raise HTTPException(413)
        try:
            judged = judged_clip(json.loads(body))
        except (ValueError, RecursionError):
            raise HTTPException(400) from None
        if (lost := self.database.misplaced()) and lost == self.database.path:
            raise StorageError(
                f"{lost}: the job table was moved, deleted or replaced. Put it back, and judge once more"
            )
        is_stored = await self.database.write(self.store, *judged)
        return JSONResponse({"stored": is_stored}, 200 if is_stored else 409)

    def store(self, connection: Any, key: str, name: str, changes: Mapping[str, Any]) -> bool:
        attempt_id = clips.attempt_of_clip(connection, self.batch.id, key, name)
        if attempt_id is None or moves.departure_of(connection, self.batch.id):
            return False
        judgement = replace(verdicts.current(connection, attempt_id), **changes)
        return verdicts.record_verdict(connection, attempt_id, judgement, clock.utcnow())

    def application(self) -> Starlette:
        """The ASGI application. Everything lies below the token; without it, nothing is there."""
        routes = [
            Route("/", self.page),
            Route("/video/{row:int}/{place:int}", self.video),
            Route("/poster/{row:int}", self.show_poster),
            Route("/job/{row:int}", self.job),
            Route("/changes", self.changes),
            Route("/verdicts", self.take_verdict, methods=["POST"]),
        ]
        return Starlette(
            routes=[Mount("/{token}", routes=routes, middleware=[Middleware(TokenGuard, token=self.token)])],
            middleware=[
                Middleware(TrustedHostMiddleware, allowed_hosts=self.names, www_redirect=False),
                Middleware(SafeHeaders),
            ],
            exception_handlers={BatchgenError: unavailable},
        )


def unavailable(_request: Request, error: Exception) -> Response:
    """The job table cannot be read or written: a full disk, or one that may only be read."""
    return JSONResponse({"stored": False, "why": str(error)}, 503)


def row_of(request: Request) -> int:
    """The row id in an address. Raises 404 for a number that no database has."""
    row: int = request.path_params["row"]
    if row > ROW_MAX:
        raise HTTPException(404)
    return row


class TokenGuard:
    """Answers 404, as for any unknown path, unless the address has the token."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self.app = app
        self.token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        token = scope.get("path_params", {}).get("token", "")
        is_known = hmac.compare_digest(token.encode("utf-8", "replace"), self.token)
        if not is_known or len(scope["path"]) > PATH_CHARS:  # Python reads no number of thousands of digits
            raise HTTPException(404)
        await self.app(scope, receive, send)


class SafeHeaders:
    """Adds the headers that bound what a browser does with an answer, where the answer has none of its own."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_safely(message: Any) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self.app(scope, receive, send_safely)


class ReviewConnection(H11Protocol):
    """A connection that is closed where a request does not come whole: uvicorn bounds only the time between two."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.bound = self.loop.call_later(REQUEST_SECONDS, transport.close)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        cycle = self.cycle  # of the last request: of one before, if its answer has ended
        if cycle is not None and not cycle.more_body and not cycle.response_complete:
            self.bound.cancel()
        elif self.bound.cancelled():
            self.bound = self.loop.call_later(REQUEST_SECONDS, self.transport.close)


class ReviewServer(Server):
    """Serves a review until Ctrl-C or SIGTERM, or until `should_exit` is set."""

    def __init__(
        self,
        review: Review,
        listener: socket.socket,
        on_ready: Callable[[str], object],
        on_trouble: Callable[[str], object] = lambda _sentence: None,
    ) -> None:
        """Calls `on_ready` with the address when it answers, and `on_trouble` with a sentence, at most once."""
        config = Config(
            review.application(),
            http=ReviewConnection,
            backlog=BACKLOG,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="critical",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=1,  # a browser keeps the connection of a video open
        )
        super().__init__(config)
        self.review, self.listener = review, listener
        self.on_ready, self.on_trouble, self.is_troubled = on_ready, on_trouble, False

    def serve_until_stopped(self) -> None:
        with suppress(KeyboardInterrupt):  # it has ended in good order, and passes the signal on
            self.run([self.listener])

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().set_exception_handler(self.handle_exception)
        await super().startup(sockets)
        self.on_ready("http://{}:{}/{}/".format(*self.listener.getsockname()[:2], self.review.token))

    def handle_exception(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Say once that descriptors have run out: asyncio tries again each second, and writes a traceback each time."""
        error = context.get("exception")
        if not isinstance(error, OSError) or error.errno not in NO_DESCRIPTORS:
            loop.default_exception_handler(context)
        elif not self.is_troubled:
            self.is_troubled = True
            self.on_trouble(f"no more connections can be taken: {os_reason(error)}")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        await self.review.posters.close()
