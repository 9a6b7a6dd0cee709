"""Chance that can be repeated: numbers that follow from a seed and names, on every machine and in any order."""

from __future__ import annotations

import math
from hashlib import blake2b
from statistics import NormalDist

from batchgen.simulator.families import clip_seconds, family

_NORMAL = NormalDist()
_TAIL = _NORMAL.inv_cdf(0.9)  # a family's range runs from the 10th to the 90th percentile


def share(*names: object) -> float:
    """A number in (0, 1) that follows from `names`."""
    digest = blake2b("\0".join(map(str, names)).encode(), digest_size=7).digest()
    return (int.from_bytes(digest) + 0.5) / 2**56


def quantile(model: str, seconds: float, level: float) -> float:
    """The seconds of the service within which a share `level` of the generations of this length end: lognormal."""
    low, high = (60 * minutes for minutes in family(model).minutes(seconds))
    spread = math.log(high / low) / (2 * _TAIL)
    return math.sqrt(low * high) * math.exp(spread * _NORMAL.inv_cdf(level))


def generation_seconds(seed: int, subject: str, model: str, body: dict[str, object]) -> float:
    """The seconds of the service that one generation takes."""
    return quantile(model, clip_seconds(body), share(seed, "duration", subject))
