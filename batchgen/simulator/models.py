"""The public catalogue with prices, and the models' speed in compressed milliseconds."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from batchgen.simulator.answers import answer
from batchgen.simulator.chance import quantile
from batchgen.simulator.families import family, usd
from batchgen.simulator.studio import Studio

DOCS = "https://raw.githubusercontent.com/aimlapi/api-docs/refs/heads/main/docs/api-references/video-models"
LEVELS = {"p50": 0.5, "p75": 0.75, "p90": 0.9, "p99": 0.99}
USUAL_SECONDS = 5.0  # length of the clips that the speed is told for
WINDOW_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class Model:
    """A model of the catalogue. `pricing` is the kind of its price: they come in three shapes."""

    id: str
    pricing: str = "fixed"
    aliases: tuple[str, ...] = ()


MODELS = (
    Model("kling-video/v2.1/standard/image-to-video", "variants", ("klingai/v2.1-standard-image-to-video",)),
    Model("kling-video/v2.1/pro/image-to-video", "variants"),
    Model("kling-video/v1.6/standard/text-to-video", "variants"),
    Model("klingai/v2.1-master-image-to-video", "fixed", ("kling-video/v2.1/master/image-to-video",)),
    Model("klingai/v2.1-master-text-to-video", "fixed", ("kling-video/v2.1/master/text-to-video",)),
    Model("klingai/v2.5-turbo/pro/image-to-video"),
    Model("google/veo-3.1-t2v"),
    Model("google/veo-3.1-i2v-fast"),
    Model("openai/sora-2-t2v"),
    Model("bytedance/seedance-1-0-lite-i2v", "variable"),
    Model("minimax/hailuo-02", "variable"),
    Model("veo2"),
)


async def models(service: Studio, request: Request) -> Response:  # noqa: ARG001 - every handler is given both
    """`GET /v1/models`, with an ETag."""
    query = request.query_params
    wanted, include = _listed(query.getlist("id")), _listed(query.getlist("include"))
    shown = [model for model in MODELS if not wanted or wanted & {model.id, *model.aliases}]
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
            "endpoint": "/v2/video/generations",
            "metrics": {"duration_ms": {name: _milliseconds(service, alias, level) for name, level in LEVELS.items()}},
        }
        for model in MODELS
        for alias in (model.id, *model.aliases)
        if not wanted or alias in wanted
    ]
    return answer({"window_seconds": WINDOW_SECONDS, "models": told})


def _milliseconds(service: Studio, model: str, level: float) -> float:
    return round(service.clock.lasts(quantile(model, USUAL_SECONDS, level)).total_seconds() * 1000, 3)


def _listed(values: list[str]) -> set[str]:
    return {each for value in values for each in value.split(",") if each}


def _describe(model: Model, include: set[str]) -> dict[str, Any]:
    name = model.id.replace("/", "-")
    told: dict[str, Any] = {
        "id": model.id,
        "aliases": list(model.aliases),
        "type": "internal/video-generations/submit",
        "info": {"name": model.id, "docsJson": f"{DOCS}/{name}.json"},
    }
    if "capabilities" in include:
        told["capabilities"] = _capabilities(model.id)
    if "pricing" in include:
        told["pricing"] = _pricing(model)
    return told


def _capabilities(name: str) -> list[str]:
    if re.search(r"image-to-video|i2v", name):
        return ["image_to_video"]
    return ["text_to_video"] if re.search(r"text-to-video|t2v", name) else ["text_to_video", "image_to_video"]


def _pricing(model: Model) -> dict[str, Any]:
    price = family(model.id)
    match model.pricing:
        case "variable":
            return {"kind": "variable"}
        case "variants":
            lengths = [
                {"when": {"duration": str(each)}, "price": float(usd(price.credits(each))), "unit": "video", "per": 1}
                for each in (5, 10)
            ]
            return {"kind": "variants", "currency": "USD", "dimensions": ["duration"], "variants": lengths}
    unit = {"name": "second", "measure": "time", "price": float(usd(price.credits(10))), "per": 10}
    return {"kind": "fixed", "currency": "USD", "units": [unit]}
