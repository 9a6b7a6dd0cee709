"""The documented models, the paths they are served on, and the schemas of their request bodies."""

from __future__ import annotations

import json
import re
from difflib import SequenceMatcher
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Literal

Style = Literal["universal", "legacy"]

UNIVERSAL = "/v2/video/generations"
VENDOR = "/v2/generate/video/"

ALIASES = {
    # The id in the answers to the master model carries this older name.
    "kling-video/v2.1/master/image-to-video": "klingai/v2.1-master-image-to-video",
}


@cache
def _catalogue() -> dict[str, dict[str, dict[str, Any]]]:
    data: dict[str, dict[str, dict[str, Any]]] = json.loads(Path(__file__).with_name("models.json").read_bytes())
    return data


@cache
def models() -> tuple[str, ...]:
    """Every documented model, by name."""
    return tuple(_catalogue())


def known(model: str) -> bool:
    """Whether `model` is documented."""
    return model in _catalogue()


def model_of(name: str) -> str | None:
    """The documented model of this name or alias."""
    name = ALIASES.get(name, name)
    return name if name in _catalogue() else None


def nearest(name: str) -> list[str]:
    """Documented models whose names are most like `name`, best first; at most three, perhaps none."""
    if name in ALIASES:
        return [ALIASES[name]]
    return list(_ranked(name.casefold()[:100]))


@lru_cache(maxsize=1000)
def _ranked(asked: str) -> tuple[str, ...]:
    ranked = sorted(((_likeness(asked, model), model) for model in models()), key=lambda pair: (-pair[0], pair[1]))
    return tuple(model for likeness, model in ranked[:3] if likeness > 0.5)


def _likeness(asked: str, model: str) -> float:
    """0..1. Words count as much as letters, so that a name without its vendor still finds its model."""
    words = set(re.findall(r"[a-z]+|[\d.]+", asked))
    shared = len(words & set(re.findall(r"[a-z]+|[\d.]+", model.casefold())))
    return SequenceMatcher(None, asked, model.casefold()).ratio() / 2 + shared / max(len(words), 1) / 2


@cache
def endpoint(model: str, style: Style = "universal") -> str:
    """The path of the create and fetch calls of `model`: "universal", or "legacy" for its vendor's own path.

    A model that is not served in the wished style gets the path it has. Raises KeyError for an unknown model.
    """
    paths = sorted(_catalogue()[model])
    wished = [path for path in paths if style_of(path) == style]
    return (wished or [path for path in paths if path == UNIVERSAL] or paths)[0]


def style_of(path: str) -> str:
    """The style of a path; the path itself where it has none."""
    return "universal" if path == UNIVERSAL else "legacy" if path.startswith(VENDOR) else path


def schema(model: str, endpoint: str) -> dict[str, Any]:
    """The JSON Schema (2020-12) of the request body. Raises KeyError for an unknown model or path."""
    return _catalogue()[model][endpoint]


def endpoints(model: str) -> tuple[str, ...]:
    """Every path `model` is served on."""
    return tuple(_catalogue()[model])
