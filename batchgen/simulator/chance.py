"""Chance that can be repeated: numbers that follow from a seed and names, on every machine and in any order."""

from __future__ import annotations

import math
from hashlib import blake2b
from statistics import NormalDist

from batchgen.catalogue import typical_seconds
from batchgen.simulator.prices import clip_seconds

_NORMAL = NormalDist()
_SPREAD = math.log(4 / 3) / (2 * _NORMAL.inv_cdf(0.9))
"""Four of five generations end within a range such as 3 to 4 minutes: that is how wide the documented ranges are."""


def share(*names: object) -> float:
    """A number in (0, 1) that follows from `names`."""
    digest = blake2b("\0".join(map(str, names)).encode(), digest_size=7).digest()
    return (int.from_bytes(digest) + 0.5) / 2**56


def quantile(model: str, seconds: float, level: float, sigma: float | None = None) -> float:
    """The seconds of the service within which a share `level` of the generations of this length end: lognormal."""
    spread = _SPREAD if sigma is None else sigma
    return typical_seconds(model, seconds) * math.exp(spread * _NORMAL.inv_cdf(level))


def generation_seconds(
    seed: int, subject: str, model: str, body: dict[str, object], sigma: float | None = None
) -> float:
    """The seconds of the service that one generation takes."""
    return quantile(model, clip_seconds(body), share(seed, "duration", subject), sigma)
