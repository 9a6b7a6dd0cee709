"""The CDN: finished videos in ranges, with a strong ETag; and what goes wrong between it and a client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from batchgen.simulator.addresses import Signed
from batchgen.simulator.answers import Broken, path
from batchgen.simulator.connection import connection, gone
from batchgen.simulator.faults import NAMES, Drawn
from batchgen.simulator.gallery import Video
from batchgen.simulator.ledger import text
from batchgen.simulator.ranges import Range, Unsatisfiable, requested
from batchgen.simulator.studio import Studio

PORTAL = "<!doctype html><title>Sign in</title><p>Welcome to the hotel. Accept the terms to go online."
REASONS = {403: "AccessDenied", 404: "NoSuchKey", 410: "Gone"}
SLICES = 20  # writes of a slow body
WITHOUT_REDIRECT = tuple(name for name in NAMES["cdn"] if name != "redirect")
OTHER_NAMES = {"127.0.0.1": "localhost", "localhost": "127.0.0.1"}


async def download(service: Studio, request: Request) -> Response:
    """`GET` or `HEAD` of a finished video's address."""
    file: str = request.path_params["file"]
    signed = Signed.of(request)
    generation = service.ledger.generation_of(file)
    if generation is None or not signed.is_genuine(service.secret, file):
        return _denied(403)
    request.scope["state"].update(generation_id=generation.id, model=generation.model)
    now = service.clock.now()
    if signed.is_expired(now.timestamp()):
        return _denied(403)
    if signed.nonce in service.burnt:
        return _denied(service.burnt[signed.nonce])
    if generation.outcome != "completed" or generation.finishes_at is None or text(now) < generation.finishes_at:
        return _denied(404)
    among = WITHOUT_REDIRECT if "Hop" in request.query_params else NAMES["cdn"]
    drawn = service.faults.draw("cdn", generation.subject, among)
    if drawn and drawn.name == "changed_etag":
        service.gallery.exchange(generation)
    if drawn and drawn.name.startswith("expired_"):
        service.burnt[signed.nonce] = int(drawn.name[-3:])
        return _denied(service.burnt[signed.nonce])
    return _spoil(request, await service.gallery.video(generation), drawn)


def _spoil(request: Request, video: Video, drawn: Drawn | None) -> Response:
    match drawn.name if drawn else None:
        case "html_200":
            return HTMLResponse(PORTAL)
        case "redirect":
            return _redirect(request)
        case "no_range":
            return Response(video.content, headers={"etag": video.etag}, media_type="video/mp4")
        case "range_416" if "range" in request.headers:
            return _unsatisfiable(video)
        case "wrong_length":
            return _serve(request, Video(video.content[: -max(1, len(video.content) // 20)], video.etag))
        case "corrupt":
            return _serve(request, Video(_garble(video.content), video.etag))
        case "cut":
            assert drawn
            whole = _serve(request, video)
            length = int(drawn.share * len(whole.body)) if drawn.fault.bytes is None else drawn.fault.bytes
            return CutBody(whole, length)
        case "slow":
            assert drawn
            return _slow(_serve(request, video), drawn.fault.seconds or 1.0)
    return _serve(request, video)


def _serve(request: Request, video: Video) -> Response:
    """The video, or the part of it that is asked for."""
    headers = {"etag": video.etag, "accept-ranges": "bytes", "content-type": "video/mp4"}
    given = request.headers
    if "if-range" in given and given["if-range"] != video.etag:
        return Response(video.content, headers=headers)
    part = requested(given.get("range"), len(video.content))
    if isinstance(part, Unsatisfiable):
        return _unsatisfiable(video)
    if part is None:
        return Response(video.content, headers=headers)
    return Response(_part(video, part), 206, headers | {"content-range": part.describe(len(video.content))})


def _part(video: Video, part: Range) -> bytes:
    return video.content[part.first : part.last + 1]


def _unsatisfiable(video: Video) -> Response:
    return Response(status_code=416, headers={"content-range": f"bytes */{len(video.content)}", "etag": video.etag})


def _denied(status: int) -> Response:
    reason = REASONS[status]
    content = f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{reason}</Code></Error>'
    return Response(content, status, media_type="application/xml")


def _redirect(request: Request) -> Response:
    host, _, port = request.headers.get("host", "127.0.0.1").partition(":")
    query = urlencode([*request.query_params.multi_items(), ("Hop", "1")])
    other = f"{OTHER_NAMES.get(host, '127.0.0.1')}:{port}" if port else OTHER_NAMES.get(host, "127.0.0.1")
    return RedirectResponse(f"http://{other}{path(request)}?{query}", 302)


def _garble(content: bytes) -> bytes:
    """As long as before, its index whole, its frames nothing."""
    begin = content.index(b"mdat") + 4
    length = int.from_bytes(content[begin - 8 : begin - 4])
    end = begin - 8 + length
    return content[:begin] + bytes(end - begin) + content[end:]


def _slow(whole: Response, seconds: float) -> Response:
    content = bytes(whole.body)

    async def trickle() -> AsyncIterator[bytes]:
        size = max(1, -(-len(content) // SLICES))
        for begin in range(0, len(content), size):
            await asyncio.sleep(seconds / SLICES)
            yield content[begin : begin + size]

    return StreamingResponse(trickle(), whole.status_code, whole.headers)


class CutBody(Broken):
    """All headers, and the first `length` bytes of the body they promise."""

    def __init__(self, whole: Response, length: int) -> None:
        super().__init__()
        self.whole = whole
        self.length = length

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.length >= len(self.whole.body):
            await self.whole(scope, receive, send)
            return
        with suppress(OSError):
            start = {"type": "http.response.start", "status": self.whole.status_code}
            await send(start | {"headers": self.whole.raw_headers})
            await send({"type": "http.response.body", "body": bytes(self.whole.body[: self.length]), "more_body": True})
        connection(scope).cut()
        await gone(receive)
