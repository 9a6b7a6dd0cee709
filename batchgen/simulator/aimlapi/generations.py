"""The two calls of a generation, create and fetch, and what their faults make of them."""

import asyncio
import base64
import json
import re
import secrets
import uuid
from datetime import datetime
from hashlib import sha256
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from batchgen.catalogue.links import first_frame, media
from batchgen.catalogue.prices import with_defaults
from batchgen.catalogue.register import UNIVERSAL, canonical, endpoints, is_known
from batchgen.catalogue.rules import schemes
from batchgen.catalogue.validation import check_params, parameters
from batchgen.clock import utcnow
from batchgen.files.media import is_base64
from batchgen.simulator.calls import Call, Silence, Truncated
from batchgen.simulator.faults import NAMES, Fault, uniform
from batchgen.simulator.file_server import signed_url
from batchgen.simulator.ledger import CREDITS_PER_MICRO_USD, Generation, GenerationRequest, usd
from batchgen.simulator.service import error_of

DATA_URI = re.compile('"data:[^",]*;base64,([^"]*)"')  # in JSON
CREATE_FAULTS = [name for name in NAMES["create"] if name != "reset_before_accept"]
UNANSWERED = ("accept_then_drop", "accept_then_stall", "accept_then_truncate")
FETCH_FAULTS = ("drop", "stall", "500", "502", "503", "429", "unknown_status", "not_found_lag")
LAST_FETCH_FAULTS = ("completed_without_url", "error_without_message", "status_case")
GARBAGE = ("<html><body>OK</body></html>", '{"status":"queued"}', "null", "", '{"id":')
MICRO_USD_PER_SECOND = {"kling.*master": 294_000, "kling": 58_820, "veo|sora": 420_000, "": 105_000}
"""The price of a second of the clip: the first pattern that the model's name contains decides."""
DEFAULT_CLIP_SECONDS = 5.0  # of a model that has no default
STATUS_WORDS = {"waiting": 0.03, "queued": 0.12, "active": 0.3, "generating": 1.0}
"""The words of a generation in progress, each until a share of its time has passed."""
FAILURE = {"name": "GenerationError", "message": "Failed to generate the video. Please try again."}


async def create(call: Call) -> ASGIApp:
    """`POST` on any generation path."""
    service, record = call.service, call.record
    if service.faults.draw("create", "arrival", ["reset_before_accept"]):
        return Silence("reset")
    request, image = await asyncio.to_thread(parse, record.path, await call.request.body())
    record.model = request.model
    fault = service.faults.draw("create", request.digest, CREATE_FAULTS)
    if fault and not fault.name.startswith("accept"):
        raise error_of(fault)
    service.check_account(request.micro_usd)
    service.check_rate("create", service.simulation.limits.creates_per_minute)
    # The service documents both statuses: a client that accepts only one of them must fail.
    status = 201 if record.path == UNIVERSAL else 200
    if not fault or fault.name not in UNANSWERED:
        record.status = fault.status if fault and fault.status else status
    generation_id = new_id(request.model, uniform(service.simulation.seed, "id", request.digest))
    generation = service.accept(request, image, generation_id, record)
    call.is_recorded = True
    headers = {
        "x-inference-id": generation.id,
        "x-aimlapi-credits-used": str(generation.micro_usd * CREDITS_PER_MICRO_USD),
        "x-aimlapi-usd-spent": str(usd(generation.micro_usd)),
    }
    if generation.client_request_id:
        headers["x-client-request-id"] = generation.client_request_id
    answer = JSONResponse({"id": generation.id, "status": "queued"}, status, headers)
    return _spoil(answer, fault) if fault else answer


def _spoil(answer: Response, fault: Fault) -> ASGIApp:
    """What a fault leaves of the answer to an accepted create, or to a fetch."""
    match fault.name.removeprefix("accept_then_"):
        case "drop":
            return Silence("reset" if fault.choice < 0.5 else "close")
        case "stall":
            return Silence("stall")
        case "truncate":
            return Truncated(answer, fault, headers_count=True)
        case "garbage":
            return Response(GARBAGE[int(fault.choice * len(GARBAGE))], 200, media_type="application/json")
    raise error_of(fault)


def new_id(model: str, choice: float) -> str:
    """A new generation id in one of the service's three shapes."""
    nanoid = secrets.token_urlsafe(16)[:21]
    return (f"{uuid.uuid4()}:{model}", str(789 * 10**15 + secrets.randbelow(10**15)), nanoid)[int(choice * 3)]


async def fetch(call: Call) -> ASGIApp:
    """`GET` on the path of the create, with `generation_id`."""
    generation_id = call.request.query_params.get("generation_id")
    if not generation_id:
        raise HTTPException(400, "generation_id: Required")
    not_found = HTTPException(404, f"Generation with id {generation_id} is not found")
    generation = call.service.ledger.generation(id=generation_id)
    if generation is None or generation.endpoint != call.record.path:
        raise not_found
    call.record.generation_id, call.record.model = generation.id, generation.model
    fault = call.service.faults.draw("fetch", generation.subject, FETCH_FAULTS)
    if fault and fault.name == "not_found_lag":
        raise not_found
    status = {"status": "moderating"} if fault else await _status(call, generation)
    answer = JSONResponse({"id": generation.id, **status})
    return _spoil(answer, fault) if fault and fault.name != "unknown_status" else answer


async def _status(call: Call, generation: Generation) -> dict[str, Any]:
    if generation.finishes_at is None:
        return {"status": "generating"}
    begin, end = map(datetime.fromisoformat, (generation.created_at, generation.finishes_at))
    if (now := utcnow()) < end:
        return {"status": next(word for word, share in STATUS_WORDS.items() if now < begin + share * (end - begin))}
    fault = call.service.faults.draw("fetch", generation.subject, LAST_FETCH_FAULTS)
    name = fault.name if fault else ""
    if generation.outcome == "error":
        return {"status": "error", "error": {"name": "Error"} if name == "error_without_message" else FAILURE}
    if name == "completed_without_url":
        return {"status": "completed"}
    other_spelling = "Completed" if fault and fault.choice < 0.5 else "complete"
    return {
        "status": other_spelling if name == "status_case" else "completed",
        "video": {
            "url": signed_url(call.request, generation),
            "content_type": "video/mp4",
            "file_name": "output.mp4",
            "file_size": (await call.service.clips.clip(generation)).stat.st_size,
        },
        "meta": {"usage": {"credits_used": generation.micro_usd * CREDITS_PER_MICRO_USD}},
    }


def parse(path: str, body: bytes) -> tuple[GenerationRequest, bytes | None]:
    """Read and validate a create's body; with the image in it that the video shows. Raises 400 for a refused body."""
    try:
        params = json.loads(body)
        if not isinstance(params, dict):
            raise HTTPException(400, "the body must be a JSON object")
        if reason := refusal(path, params):
            raise HTTPException(400, reason)
        text = without_images(params)
        digest = digest_of(text.encode())
    except (ValueError, RecursionError):  # no JSON, nested too deep, or text that is not Unicode
        raise HTTPException(400, "the body is not valid JSON") from None
    model = canonical(params["model"])
    seconds, image = clip_seconds(model, path, params), decode_data_uri(first_frame(params) or "")
    request = GenerationRequest(
        model=model,
        endpoint=path,
        body=text,
        digest=digest,
        prompt=str(params.get("prompt") or model),
        seconds=seconds,
        aspect=_aspect(params.get("aspect_ratio", params.get("ratio"))),
        image=digest_of(image) if image else None,
        micro_usd=price(model, seconds),
    )
    return request, image


def refusal(path: str, body: dict[str, Any]) -> str | None:
    """The message of a 400, which names each wrong parameter; `None` where the body is accepted.

    As lenient as the service: digits pass for a number, and a parameter that the model does not have is ignored.
    """
    model = body.get("model")
    if not isinstance(model, str):
        return "`model` is required" if model is None else "`model` must be text"
    model = canonical(model)
    if not is_known(model):
        return f"`model`: there is no model {model[:100]}"
    if path not in endpoints(model):
        return f"`model`: {model} is not served on this path, but on {' and '.join(endpoints(model))}"
    params = {name: value for name, value in body.items() if name in parameters(model, path)}
    _, violations = check_params(model, path, params)
    reasons = [violation.message for violation in violations if not violation.unknown]
    for link in () if reasons else media(params):
        own = schemes(model, link.pointer.split("/")[1])
        uri = f"data:;base64,{link.value}" if is_base64(link.value, link.medium) else link.value
        if not link.value.startswith(("http://", "https://", *own)) and decode_data_uri(uri) is None:
            name = link.pointer.removeprefix("/").replace("/", ".")
            reasons.append(f"`{name}` must be an http(s) address or a base64 data URI")
    return "; ".join(reasons) or None


def decode_data_uri(value: str) -> bytes | None:
    """The bytes of a base64 data URI; `None` for anything else."""
    match = DATA_URI.fullmatch(f'"{value}"')
    try:
        return base64.b64decode(match[1], validate=True) if match else None
    except ValueError:
        return None


def without_images(params: dict[str, Any]) -> str:
    """A body in the form by which two are compared, with the digest of each image in place of its data URI."""

    def replace(match: re.Match[str]) -> str:
        content = decode_data_uri(match[0][1:-1])
        return match[0] if content is None else f'"data:{digest_of(content)}"'

    text = json.dumps(params, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return DATA_URI.sub(replace, text)


def digest_of(content: bytes) -> str:
    return sha256(content).hexdigest()[:32]


def _aspect(ratio: object) -> float | None:
    width, _, height = str(ratio).partition(":")
    try:
        return float(width) / float(height)
    except (ValueError, ZeroDivisionError):
        return None  # absent, or a word such as "auto"


def price(model: str, seconds: float) -> int:
    """Millionths of a dollar for a clip of `seconds`."""
    rate = next(rate for pattern, rate in MICRO_USD_PER_SECOND.items() if re.search(pattern, model))
    return round(rate * seconds)


def clip_seconds(model: str, path: str, params: dict[str, Any]) -> float:
    """The length that a request asks for, as a number or as digits; where it names none, the model's default."""
    duration = with_defaults(model, path, params).get("duration", DEFAULT_CLIP_SECONDS)
    try:
        return max(1.0, float(str(duration)))
    except ValueError:
        return DEFAULT_CLIP_SECONDS
