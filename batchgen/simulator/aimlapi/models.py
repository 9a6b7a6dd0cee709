"""The models: made-up prices, the public catalogue that lists them, and how long generations take."""

import re
from functools import cache
from hashlib import sha256
from typing import Any

from pydantic import BaseModel, Field
from starlette.responses import JSONResponse, Response

from batchgen.catalogue.prices import with_defaults
from batchgen.catalogue.register import endpoint, models, schema
from batchgen.catalogue.rules import ALIASES
from batchgen.simulator.calls import Call
from batchgen.simulator.ledger import usd
from batchgen.simulator.service import SimulatedService, generation_seconds

MICRO_USD_PER_SECOND = {"kling.*master": 294_000, "kling": 58_820, "veo|sora": 420_000, "": 105_000}
"""The price of a second of the clip: the first pattern that the model's name contains decides."""
DEFAULT_CLIP_SECONDS = 5.0  # of a model that has no default
QUANTILES = {"p50": 0.5, "p75": 0.75, "p90": 0.9, "p99": 0.99}


class CatalogueQuery(BaseModel, extra="forbid"):
    include: str = ""


class MetricsQuery(BaseModel, extra="forbid"):
    aliases: list[str] = Field(max_length=100)  # the service's own limit for one request


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


async def catalogue(call: Call) -> Response:
    """`GET /v1/models`: every documented model, with an ETag; with prices where `include=pricing`."""
    rows: list[dict[str, Any]] = [
        {"id": model, "aliases": aliases_of(model), "type": "internal/video-generations/submit"} for model in models()
    ]
    if "pricing" in call.query(CatalogueQuery).include.split(","):
        rows = [row | {"pricing": _pricing(row["id"])} for row in rows]
    answer = JSONResponse({"object": "list", "data": rows})
    answer.headers["etag"] = f'"{sha256(bytes(answer.body)).hexdigest()[:32]}"'
    if answer.headers["etag"] == call.request.headers.get("if-none-match"):
        return Response(status_code=304, headers={"etag": answer.headers["etag"]})
    return answer


def aliases_of(model: str) -> list[str]:
    return [alias for alias, name in ALIASES.items() if name == model]


@cache
def _pricing(model: str) -> dict[str, Any]:
    """A price for each listed length, or for 10 seconds where any length is allowed; none for a model without one."""
    length = schema(model, endpoint(model))["properties"].get("duration")
    if length is None:
        return {"kind": "variable"}
    if "enum" in length:
        variants = [
            {"when": {"duration": str(seconds)}, "price": float(usd(price(model, seconds))), "unit": "video", "per": 1}
            for seconds in length["enum"]
        ]
        return {"kind": "variants", "currency": "USD", "dimensions": ["duration"], "variants": variants}
    unit = {"name": "second", "measure": "time", "price": float(usd(price(model, 10))), "per": 10}
    return {"kind": "fixed", "currency": "USD", "units": [unit]}


async def metrics(call: Call) -> Response:
    """`GET /models/metrics`: how long generations take, in compressed milliseconds.

    `aliases` is repeated for several names, as at the real service: a comma does not separate them.
    """
    names = call.query(MetricsQuery, "aliases").aliases
    rows = [
        {"alias": name, "endpoint": endpoint(model), "metrics": {"duration_ms": _milliseconds(call.service, model)}}
        for model in models()
        for name in (model, *aliases_of(model))
        if not names or name in names
    ]
    return JSONResponse({"window_seconds": 86_400, "models": rows})


def _milliseconds(service: SimulatedService, model: str) -> dict[str, float]:
    sigma = service.simulation.sigma
    seconds = {name: generation_seconds(model, DEFAULT_CLIP_SECONDS, level, sigma) for name, level in QUANTILES.items()}
    return {name: round(1000 * service.compressed(value).total_seconds(), 3) for name, value in seconds.items()}
