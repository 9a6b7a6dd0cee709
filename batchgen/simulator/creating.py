"""The create call: refuse, or accept, charge, and answer; or accept, charge, and fail to answer."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from batchgen.catalogue.register import UNIVERSAL
from batchgen.simulator.answers import Dropped, Stalled, Truncated, answer, path, raw, refuse
from batchgen.simulator.calls import entry, throttle
from batchgen.simulator.chance import generation_seconds, share
from batchgen.simulator.faults import LOG_ROW, NAMES, OUTCOMES, UNREAD, Drawn
from batchgen.simulator.identity import Asked, canonical, client_request_id, generation_id, nanoid
from batchgen.simulator.ledger import Generation, text
from batchgen.simulator.prices import clip_seconds, price, usd
from batchgen.simulator.refusal import official, refusal
from batchgen.simulator.studio import Studio

LARGE = 256 * 1024  # bytes of a body that is read beside the event loop
LOST_ROW_SECONDS = 600.0  # how late a row is that the fault `lag` holds back, unless it says
READ = tuple(name for name in NAMES["create"] if name not in UNREAD)
FATES = {"generation_error": "error", "stuck": "stuck"}
ERROR_WORDS = {
    500: "Internal server error",
    502: "Bad gateway",
    503: "Service unavailable",
    504: "Generation timeout",
}


async def create(service: Studio, request: Request) -> Response:
    """`POST` on any of the generation paths."""
    if service.faults.draw("create", "arrival", UNREAD):
        return Dropped(reset=True)
    try:
        content = await request.body()
    except ClientDisconnect:
        return Dropped(reset=True)  # half a request: nothing was asked
    try:
        if len(content) > LARGE:
            body, asked, wrong = await asyncio.to_thread(_read, path(request), content)
        else:
            body, asked, wrong = _read(path(request), content)
    except (ValueError, RecursionError):
        return refuse(request, 400, "the body is not valid JSON")
    state = request.scope["state"]
    state["model"] = str(body["model"]) if isinstance(body, dict) and "model" in body else None
    drawn = service.faults.draw("create", asked.digest if asked else "", READ)
    if drawn and not drawn.name.startswith("accept"):
        return _refuse_by_fault(request, drawn)
    if wrong or asked is None:
        return refuse(request, 400, str(wrong))
    body["model"] = official(body["model"])
    charge = price(body["model"], clip_seconds(body))
    if not service.account.can_pay(charge):
        return refuse(request, 403, "You have run out of credits. Top up your balance to go on.")
    if service.account.too_many():
        return throttle(request, service.clock.lasts(1), service.clock.speed)
    if (wait := service.account.creates.pass_or_wait()) is not None:
        return throttle(request, wait, service.clock.speed)
    # Both are documented: a client that knows only one of them must not pass.
    usual = 201 if path(request) == UNIVERSAL else 200
    status = int(drawn.name[-3:]) if drawn and drawn.name[-3:].isdigit() else usual
    generation = _accept(service, request, body, asked, charge, _unanswered(drawn, status))
    if status != usual:
        return refuse(request, status, ERROR_WORDS[status])
    return _break(_accepted(generation, status), drawn)


def _read(endpoint: str, content: bytes) -> tuple[Any, Asked | None, str | None]:
    """A body, what it asks for, and why it is refused, if it is."""
    body = json.loads(content)
    return body, canonical(body) if isinstance(body, dict) else None, refusal(endpoint, body)


def _unanswered(drawn: Drawn | None, status: int) -> int | None:
    cut = drawn and drawn.name in ("accept_then_drop", "accept_then_stall", "accept_then_truncate")
    return None if cut else status


def _accept(
    service: Studio, request: Request, body: dict[str, Any], asked: Asked, charge: int, status: int | None
) -> Generation:
    """Commit the generation. It is charged from here on, whatever becomes of the answer."""
    now = service.clock.now()
    seed = service.simulation.seed
    nth = service.ledger.times_asked(asked.digest)
    subject = f"{asked.digest}#{nth}"
    fate = service.faults.draw("fetch", subject, OUTCOMES)
    outcome = FATES[fate.name] if fate else "completed"
    takes = service.clock.lasts(generation_seconds(seed, subject, body["model"], body, service.simulation.sigma))
    generation = Generation(
        generation_id(body["model"], share(seed, "shape", subject)),
        asked.digest,
        nth,
        client_request_id(request.headers.get("x-client-request-id")),
        body["model"],
        path(request),
        asked.canonical,
        next(iter(asked.images), None),
        f"{nanoid()}_output.mp4",
        text(now),
        None if outcome == "stuck" else text(now + takes),
        outcome,
        charge,
    )
    request.scope["state"].update(generation_id=generation.id, noted=True)
    row = entry(service, request, "create", status)
    lost = service.faults.draw("log", subject, LOG_ROW)
    lag = service.simulation.lag_seconds
    if lost and lost.name == "lag":
        lag += LOST_ROW_SECONDS if lost.fault.seconds is None else lost.fault.seconds
    logged_at = None if lost and lost.name == "missing" else text(now + service.clock.lasts(lag))
    image = asked.images[generation.image] if generation.image else None
    service.ledger.accept(generation, row._replace(logged_at=logged_at), image)
    return generation


def _accepted(generation: Generation, status: int) -> Response:
    headers = {
        "x-inference-id": generation.id,
        "x-aimlapi-credits-used": str(generation.credits),
        "x-aimlapi-usd-spent": str(usd(generation.credits)),
    }
    if generation.client_request_id:
        headers["x-client-request-id"] = generation.client_request_id
    return answer({"id": generation.id, "status": "queued"}, status, headers)


def _break(response: Response, drawn: Drawn | None) -> Response:
    """The answer to an accepted create, or what a fault leaves of it."""
    match drawn.name if drawn else None:
        case "accept_then_drop":
            return Dropped(reset=drawn is not None and drawn.share < 0.5)
        case "accept_then_stall":
            return Stalled()
        case "accept_then_truncate":
            assert drawn
            length = drawn.fault.bytes
            return Truncated(response, int(drawn.share * len(raw(response))) if length is None else length)
        case "accept_then_garbage":
            assert drawn
            garbage = ("<html><body>OK</body></html>", '{"status":"queued"}', "null", "", '{"id":')
            return Response(garbage[int(drawn.share * len(garbage))], 200, media_type="application/json")
    return response


def _refuse_by_fault(request: Request, drawn: Drawn) -> Response:
    match drawn.name:
        case "throttle_429":
            return throttle_by_fault(request, drawn)
        case "auth_401":
            return refuse(request, 401, "Invalid API key. You can get a key in your account.")
        case "credits_403":
            return refuse(request, 403, "You have run out of credits. Top up your balance to go on.")
        case "reject_400":
            return refuse(request, 400, "prompt: The prompt was refused by the content filter")
    return refuse(request, 500, ERROR_WORDS[500])


def throttle_by_fault(request: Request, drawn: Drawn) -> Response:
    """429, with the Retry-After the fault names; where it names none, with 1 half of the time."""
    if drawn.fault.retry_after is not None:
        return throttle(request, timedelta(seconds=drawn.fault.retry_after))
    return throttle(request, timedelta(seconds=1) if drawn.share < 0.5 else None)
