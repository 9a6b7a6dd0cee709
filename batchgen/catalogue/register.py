"""The documented models, the paths that serve them, and the schemas of their request bodies."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from difflib import SequenceMatcher
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Literal

from batchgen.catalogue.rules import ALIASES
from batchgen.catalogue.wording import COMPARED_CHARACTERS

DATA = Path(__file__).with_name("models.json")
"""model → path → JSON Schema of the request body."""

Style = Literal["universal", "legacy"]
"""One path for all models, or the vendor's own."""

UNIVERSAL = "/v2/video/generations"
VENDOR = "/v2/generate/video/"
"""How the legacy paths begin; the vendor follows."""


@dataclass(frozen=True, slots=True)
class LearnedModel:
    """A model that is newer than the catalogue: path → schema, as the service documented it at a time."""

    schemas: Mapping[str, dict[str, Any]]
    documented_at: datetime


_learned: dict[str, LearnedModel] = {}
_learned_aliases: dict[str, str] = {}


def learn(models: Mapping[str, LearnedModel], names: Mapping[str, str]) -> None:
    """Add models, and further `names` of models (name → model), from the service's live documents.

    What the catalogue has stays as it is, and so does what this process has learned before.
    """
    for model, learned in models.items():
        _learned.setdefault(model, learned)
    for alias, model in names.items():
        _learned_aliases.setdefault(alias, model)


def learned_at(model: str) -> datetime | None:
    """When the service documented a model that the catalogue does not have; None for a model of the catalogue."""
    name = canonical(model)
    return _learned[name].documented_at if name in _learned and name not in _catalogue() else None


def _paths(model: str) -> Mapping[str, dict[str, Any]]:
    """Path → schema. Raises KeyError for an unknown model."""
    name = canonical(model)
    return _catalogue()[name] if name in _catalogue() else _learned[name].schemas


@cache
def _catalogue() -> dict[str, dict[str, dict[str, Any]]]:
    data: dict[str, dict[str, dict[str, Any]]] = json.loads(DATA.read_bytes())
    return data


@cache
def models() -> tuple[str, ...]:
    """The names of all documented models, sorted."""
    return tuple(_catalogue())


def is_known(model: str) -> bool:
    """Whether a model of this name or alias is documented."""
    return canonical(model) in _catalogue() or canonical(model) in _learned


def canonical(name: str) -> str:
    """The name under which a model is documented; an unknown name stays as it is."""
    if name in _catalogue() or name in ALIASES:
        return ALIASES.get(name, name)
    return _learned_aliases.get(name, name)


def model_of(name: str) -> str | None:
    """The documented model of this name or alias."""
    name = canonical(name)
    return name if is_known(name) else None


def nearest(name: str) -> list[str]:
    """At most three documented models with names like `name`, the most similar first."""
    if name in ALIASES:
        return [ALIASES[name]]
    return list(_most_similar(name.casefold()[:COMPARED_CHARACTERS]))


@lru_cache(maxsize=1000)
def _most_similar(name: str) -> tuple[str, ...]:
    ranked = sorted(((_similarity(name, model), model) for model in models()), key=lambda pair: (-pair[0], pair[1]))
    return tuple(model for similarity, model in ranked[:3] if similarity > 0.5)


def _similarity(name: str, model: str) -> float:
    """From 0 to 1. Shared words count as much as letters, so a name without its vendor still matches its model."""
    words = set(re.findall(r"[a-z]+|[\d.]+", name))
    shared = len(words & set(re.findall(r"[a-z]+|[\d.]+", model.casefold())))
    return SequenceMatcher(None, name, model.casefold()).ratio() / 2 + shared / max(len(words), 1) / 2


@cache
def endpoint(model: str, style: Style = "universal") -> str:
    """The path of the create and fetch calls of `model`: in this style, else the one that it has (see `is_served`).

    Raises KeyError for an unknown model.
    """
    paths = sorted(endpoints(model))
    of_style = [path for path in paths if style_of(path) == style]
    return (of_style or [path for path in paths if path == UNIVERSAL] or paths)[0]


def is_served(model: str, style: Style) -> bool:
    """Whether the model has a path of this style. On the universal path a model may stand in by its only other one."""
    return style == "universal" or any(style_of(path) == style for path in endpoints(model))


def style_of(path: str) -> str:
    """The style of a path; the path itself where it has neither style."""
    return "universal" if path == UNIVERSAL else "legacy" if path.startswith(VENDOR) else path


def schema(model: str, endpoint: str) -> dict[str, Any]:
    """The JSON Schema (2020-12) of the request body. Raises KeyError for an unknown model or path."""
    return _paths(model)[endpoint]


def endpoints(model: str) -> tuple[str, ...]:
    """All paths that serve the model. Raises KeyError for an unknown one."""
    return tuple(_paths(model))
