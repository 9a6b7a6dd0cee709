"""Why a create would be refused: the one question the routes ask about a body."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from batchgen.simulator.identity import decode_data_uri

_NEEDS_IMAGE = re.compile(r"image-to-video|i2v")
_NEEDS_PROMPT = re.compile(r"text-to-video|t2v")
_LENGTHS = {5, 10}


def refusal(endpoint: str, body: Any) -> str | None:  # noqa: ARG001 - what a model takes can differ by path
    """The message of the 400 that `body` earns, which names the parameter; `None` where it is accepted."""
    if not isinstance(body, dict):
        return "body: Expected object"
    model = body.get("model")
    if not isinstance(model, str) or not model:
        return f"model: {'Required' if model is None else 'Expected string'}"
    if _NEEDS_IMAGE.search(model) and "image_url" not in body:
        return "image_url: Required"
    if _NEEDS_PROMPT.search(model) and "prompt" not in body:
        return "prompt: Required"
    for name, check in _CHECKS.items():
        if name in body and (wrong := check(body[name])):
            return f"{name}: {wrong}"
    if "kling" in model and "duration" in body and int(body["duration"]) not in _LENGTHS and "v3" not in model:
        return "duration: Invalid enum value. Expected 5 | 10"
    return None


def _text(value: Any) -> str | None:
    return None if isinstance(value, str) and value.strip() else "Expected a string that is not empty"


def _image(value: Any) -> str | None:
    if not isinstance(value, str):
        return "Expected string"
    if value.startswith("data:"):
        return "Invalid base64 image" if decode_data_uri(value) is None else None
    return None if value.startswith(("http://", "https://")) else "Invalid url"


def _length(value: Any) -> str | None:
    if isinstance(value, bool) or not re.fullmatch(r"\d{1,3}", str(value), re.ASCII):
        return "Expected integer"
    return None


def _share(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "Expected number"
    return None if 0 <= value <= 1 else "Number must be from 0 to 1"


_CHECKS: dict[str, Callable[[Any], str | None]] = {
    "prompt": _text,
    "negative_prompt": lambda value: None if isinstance(value, str) else "Expected string",
    "image_url": _image,
    "tail_image_url": _image,
    "last_image_url": _image,
    "duration": _length,
    "cfg_scale": _share,
}
