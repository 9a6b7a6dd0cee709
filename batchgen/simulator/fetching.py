"""The fetch call: how a generation is doing, and where its video lies."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from batchgen.simulator.addresses import address
from batchgen.simulator.answers import Dropped, Stalled, answer, path, refuse
from batchgen.simulator.chance import share
from batchgen.simulator.creating import ERROR_WORDS, throttle_by_fault
from batchgen.simulator.faults import NAMES, OUTCOMES, Drawn
from batchgen.simulator.ledger import Generation, text
from batchgen.simulator.studio import Studio

AT_ANY_TIME = ("drop", "stall", "500", "502", "503", "429", "unknown_status", "not_found_lag")
AT_THE_END = tuple(name for name in NAMES["fetch"] if name not in (*AT_ANY_TIME, *OUTCOMES))


@dataclass(frozen=True, slots=True)
class _Words:
    waiting: float  # share of the time gone by
    word: str


_WORDS = (_Words(0.03, "waiting"), _Words(0.12, "queued"), _Words(0.3, "active"), _Words(1, "generating"))


async def fetch(service: Studio, request: Request) -> Response:
    """`GET` on the path of the create, with `generation_id`."""
    wanted = request.query_params.get("generation_id")
    if not wanted:
        return refuse(request, 400, "generation_id: Required")
    generation = service.ledger.generation(wanted)
    if generation is None or generation.endpoint != path(request):
        return refuse(request, 404, f"Generation with id {wanted} is not found")
    request.scope["state"].update(generation_id=generation.id, model=generation.model)
    drawn = service.faults.draw("fetch", generation.subject, AT_ANY_TIME)
    if drawn:
        return _trouble(request, generation, drawn)
    return answer(await _progress(service, request, generation))


def _trouble(request: Request, generation: Generation, drawn: Drawn) -> Response:
    match drawn.name:
        case "drop":
            return Dropped(reset=drawn.share < 0.5)
        case "stall":
            return Stalled()
        case "429":
            return throttle_by_fault(request, drawn)
        case "unknown_status":
            return answer({"id": generation.id, "status": "moderating"})
        case "not_found_lag":
            return refuse(request, 404, f"Generation with id {generation.id} is not found")
    return refuse(request, int(drawn.name), ERROR_WORDS[int(drawn.name)])


async def _progress(service: Studio, request: Request, generation: Generation) -> dict[str, Any]:
    now = text(service.clock.now())
    if generation.finishes_at is None or now < generation.finishes_at:
        return {"id": generation.id, "status": _word(service, generation)}
    drawn = service.faults.draw("fetch", generation.subject, AT_THE_END)
    name = drawn.name if drawn else None
    if generation.outcome == "error":
        told = {"name": "Error"} if name == "error_without_message" else _failure(generation)
        return {"id": generation.id, "status": "error", "error": told}
    done: dict[str, Any] = {"id": generation.id, "status": "completed"}
    if drawn and name == "status_case":
        done["status"] = "Completed" if drawn.share < 0.5 else "complete"
    if name == "completed_without_url":
        return done
    size = await service.gallery.size(generation)
    return done | {
        "video": {
            "url": address(service, request, generation),
            "content_type": "video/mp4",
            "file_name": "output.mp4",
            "file_size": size,
        },
        "meta": {"usage": {"credits_used": generation.credits}},
    }


def _word(service: Studio, generation: Generation) -> str:
    if generation.finishes_at is None:
        return "generating"
    begun, ends, now = map(_seconds, (generation.created_at, generation.finishes_at, text(service.clock.now())))
    gone_by = (now - begun) / max(ends - begun, 1e-9)
    return next((each.word for each in _WORDS if gone_by < each.waiting), "generating")


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def _failure(generation: Generation) -> dict[str, str]:
    failures = (
        ("GenerationError", "Failed to generate the video. Please try again."),
        ("ContentPolicyViolation", "The content was flagged by the provider's safety system."),
        ("InvalidImage", "The image could not be downloaded or decoded."),
    )
    name, message = failures[int(share("failure", generation.subject) * len(failures))]
    return {"name": name, "message": message}
