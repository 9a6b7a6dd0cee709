"""What the service documents of its models in prose only: data (`rules.json`) and the functions that apply it.

A rule names its models by shell patterns. `conditions` are JSON Schemas of the whole request with a sentence of their
own; `images` bound local images; `addresses` are schemes beside http(s) that a medium's address may have; `retired`
models are no longer served; `aliases` are further names of documented models.
"""

import json
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema_rs import Draft202012Validator

DATA = Path(__file__).with_name("rules.json")


@dataclass(frozen=True, slots=True)
class Condition:
    """A rule between parameters. A breach is reported at `parameter`; `message` says what the model does."""

    parameter: str
    message: str
    validator: Draft202012Validator


@cache
def _rules() -> dict[str, Any]:
    rules: dict[str, Any] = json.loads(DATA.read_bytes())
    return rules


ALIASES: dict[str, str] = _rules()["aliases"]
"""The documented model of each alias."""


def _of_model(kind: str, model: str) -> list[dict[str, Any]]:
    return [rule for rule in _rules()[kind] if any(fnmatchcase(model, pattern) for pattern in rule["models"])]


def is_retired(model: str) -> bool:
    """Whether the service's documentation calls the model no longer supported."""
    return model in _rules()["retired"]


@cache
def conditions(model: str) -> tuple[Condition, ...]:
    """The rules between the parameters of a model, which no schema of one parameter can say."""
    return tuple(
        Condition(rule["parameter"], rule["message"], Draft202012Validator(rule["schema"]))
        for rule in _of_model("conditions", model)
    )


@cache
def schemes(model: str, parameter: str) -> tuple[str, ...]:
    """The schemes beside http(s) that the address of a medium may have, such as "gs://"."""
    return tuple(rule["scheme"] for rule in _of_model("addresses", model) if parameter in rule["parameters"])


def image_fault(model: str, media_type: str, size: int, width: int, height: int) -> str | None:
    """Why the model refuses an image of `size` bytes and of so many pixels, or None."""
    for rule in _of_model("images", model):
        shorter, longer = sorted((width, height))
        if media_type not in rule["formats"]:
            names = " or ".join(name.removeprefix("image/").upper() for name in rule["formats"])
            return f"`{model}` takes {names}, and this is {media_type.removeprefix('image/').upper()}"
        if size > rule["bytes"]:
            return f"`{model}` takes images of at most {rule['bytes'] // 1_000_000} MB"
        if shorter < rule["shorter_side"]:
            return f"`{model}` takes images of at least {rule['shorter_side']} pixels a side, not {width} × {height}"
        if longer > rule["longest_ratio"] * shorter:
            return (
                f"`{model}` takes images at most {rule['longest_ratio']} times as long as wide, not {width} × {height}"
            )
    return None
