"""How long a generation usually takes, as the service's documentation says."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from batchgen.catalogue import register

DATA = Path(__file__).with_name("generation_times.json")
"""model → clip length in seconds → middle of the documented range of generation times, in seconds."""
SHORTEST_CLIP_SECONDS, LONGEST_CLIP_SECONDS = 0.1, 100_000.0
"""A shorter or longer one is no clip but a mistake, from which no price for a second is learned."""
DEFAULT_SECONDS = 180.0
"""For a model without a documented time. A guess; the run replaces it by measured times."""
DEFAULT_LENGTH = 5.0  # of a clip, in seconds: of the examples in the documentation


@cache
def _documented() -> dict[str, dict[float, float]]:
    data = json.loads(DATA.read_bytes())
    return {model: {float(length): seconds for length, seconds in times.items()} for model, times in data.items()}


def typical_seconds(model: str, clip_seconds: float = 0.0) -> float:
    """The median generation time in seconds of a clip of so many seconds; of 5 seconds where it is 0.

    The documented length that is nearest counts, the longer of two.
    """
    documented = _documented().get(register.canonical(model))
    if documented is None:
        return DEFAULT_SECONDS
    length = clip_seconds or DEFAULT_LENGTH
    return documented[min(documented, key=lambda candidate: (abs(candidate - length), -candidate))]


def clip_seconds(params: Mapping[str, Any]) -> float | None:
    """The length of the clip in seconds, where the parameters of a request name it as a number."""
    try:
        seconds = float(params.get("duration", ""))
    except (TypeError, ValueError):
        return None
    return seconds if SHORTEST_CLIP_SECONDS <= seconds < LONGEST_CLIP_SECONDS else None
