"""What the simulated models charge: a made-up rate for each second of the clip, by the model's name."""

from __future__ import annotations

import re
from decimal import Decimal

CREDITS_PER_USD = 2_000_000

CREDITS_PER_SECOND = (
    (re.compile(r"kling.*master"), 588_000),
    (re.compile(r"kling.*turbo"), 147_000),
    (re.compile(r"kling.*pro"), 206_000),
    (re.compile(r"kling"), 117_640),
    (re.compile(r"veo|sora"), 840_000),
    (re.compile(r"fast|flash|lite|turbo|draft"), 84_000),
    (re.compile(r""), 210_000),
)
"""The first whose pattern the name holds counts."""


def price(model: str, seconds: float) -> int:
    """The credits that a clip of `seconds` costs, exact."""
    rate = next(credits_per_second for pattern, credits_per_second in CREDITS_PER_SECOND if pattern.search(model))
    return round(rate * seconds)


def clip_seconds(body: dict[str, object]) -> float:
    """The length a request asks for: 5 s unless `duration` says otherwise, as a number or as digits."""
    try:
        return max(1.0, float(str(body.get("duration", 5))))
    except ValueError:
        return 5.0


def usd(credits_spent: int) -> Decimal:
    """Credits in USD, exact."""
    return Decimal(credits_spent) / CREDITS_PER_USD
