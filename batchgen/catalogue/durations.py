"""How long a generation usually takes, as the service's documentation says."""

from collections.abc import Mapping
from typing import Any

LONGEST_CLIP_SECONDS = 100_000.0
"""A longer one is no clip but a mistake."""
DEFAULT_SECONDS = 180.0
"""For a model without a documented time. A guess; the run replaces it by measured times."""

_DOCUMENTED = {
    # model: {clip length in seconds: middle of the documented range in seconds}
    "kling-video/v2.1/standard/image-to-video": {5: 210.0, 10: 420.0},
    "klingai/v2.1-master-image-to-video": {5: 330.0, 10: 750.0},
}


def typical_seconds(model: str, duration: object = None) -> float:
    """The median generation time in seconds of a clip of `duration` seconds; of 5 seconds where it is no number."""
    documented = _DOCUMENTED.get(model)
    if documented is None:
        return DEFAULT_SECONDS
    try:
        length = float(str(duration))
    except ValueError:
        length = 5.0
    return documented[10] if length > 5 else documented[5]


def clip_seconds(params: Mapping[str, Any]) -> float | None:
    """The length of the clip in seconds, where the parameters of a request name it as a number."""
    try:
        seconds = float(params.get("duration", ""))
    except (TypeError, ValueError):
        return None
    return seconds if 0 < seconds < LONGEST_CLIP_SECONDS else None
