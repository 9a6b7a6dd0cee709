"""The public catalogue with prices, and the models' speed in compressed milliseconds."""

from __future__ import annotations

import json
from functools import cache
from hashlib import sha256
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from batchgen.catalogue import endpoint, kinds, models, schema
from batchgen.catalogue.register import ALIASES
from batchgen.simulator.answers import answer
from batchgen.simulator.chance import quantile
from batchgen.simulator.prices import price, usd
from batchgen.simulator.studio import Studio

DOCS = "https://raw.githubusercontent.com/aimlapi/api-docs/refs/heads/main/docs/api-references/video-models"
LEVELS = {"p50": 0.5, "p75": 0.75, "p90": 0.9, "p99": 0.99}
USUAL_SECONDS = 5.0  # length of the clips that the speed is told for
WINDOW_SECONDS = 86_400


async def catalogue(service: Studio, request: Request) -> Response:  # noqa: ARG001 - every handler is given both
    """`GET /v1/models`: every documented model, with an ETag."""
    query = request.query_params
    wanted, include = _listed(query.getlist("id")), _listed(query.getlist("include"))
    shown = [model for model in models() if not wanted or wanted & {model, *_aliases(model)}]
    content = {"object": "list", "data": [_describe(model, include) for model in shown]}
    etag = f'"{sha256(json.dumps(content).encode()).hexdigest()[:32]}"'
    if etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers={"etag": etag})
    return answer(content, headers={"etag": etag})


async def metrics(service: Studio, request: Request) -> Response:
    """`GET /models/metrics`: how long generations take here and now, which is `speed` times less than in earnest."""
    wanted = _listed(request.query_params.getlist("aliases"))
    told = [
        {
            "alias": alias,
            "endpoint": endpoint(model),
            "metrics": {"duration_ms": {name: _milliseconds(service, model, level) for name, level in LEVELS.items()}},
        }
        for model in models()
        for alias in (model, *_aliases(model))
        if not wanted or alias in wanted
    ]
    return answer({"window_seconds": WINDOW_SECONDS, "models": told})


def _milliseconds(service: Studio, model: str, level: float) -> float:
    return round(
        service.clock.lasts(quantile(model, USUAL_SECONDS, level, service.simulation.sigma)).total_seconds() * 1000, 3
    )


def _listed(values: list[str]) -> set[str]:
    return {each for value in values for each in value.split(",") if each}


@cache
def _aliases(model: str) -> tuple[str, ...]:
    return tuple(alias for alias, name in ALIASES.items() if name == model)


def _describe(model: str, include: set[str]) -> dict[str, Any]:
    told: dict[str, Any] = {
        "id": model,
        "aliases": list(_aliases(model)),
        "type": "internal/video-generations/submit",
        "info": {"name": model, "docsJson": f"{DOCS}/{model.replace('/', '-')}.json"},
    }
    if "capabilities" in include:
        told["capabilities"] = [kind.replace("-", "_") for kind in kinds(model)]
    if "pricing" in include:
        told["pricing"] = _pricing(model)
    return told


def _pricing(model: str) -> dict[str, Any]:
    """A model whose lengths are listed has a price for each, one with a range of lengths a price for its seconds; of
    one without a length nobody can quote a price."""
    length = schema(model, endpoint(model))["properties"].get("duration")
    if length is None:
        return {"kind": "variable"}
    if "enum" in length:
        variants = [
            {"when": {"duration": str(each)}, "price": float(usd(price(model, each))), "unit": "video", "per": 1}
            for each in length["enum"]
        ]
        return {"kind": "variants", "currency": "USD", "dimensions": ["duration"], "variants": variants}
    unit = {"name": "second", "measure": "time", "price": float(usd(price(model, 10))), "per": 10}
    return {"kind": "fixed", "currency": "USD", "units": [unit]}
