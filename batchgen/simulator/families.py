"""What the simulated models cost and how long they take, after the documented figures where there are any."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

CREDITS_PER_USD = 2_000_000


@dataclass(frozen=True, slots=True)
class Family:
    """Models that cost and take the same. Ranges are minutes, read as the 10th and 90th percentile."""

    pattern: re.Pattern[str]
    credits_per_second: int
    minutes_of_5s: tuple[float, float]
    minutes_of_10s: tuple[float, float]

    def credits(self, seconds: float) -> int:
        """The price of a clip of `seconds`, exact."""
        return round(self.credits_per_second * seconds)

    def minutes(self, seconds: float) -> tuple[float, float]:
        """The range for a clip of `seconds`, on the line through the two documented lengths."""
        share = (seconds - 5) / 5
        low, high = (
            max(five + (ten - five) * share, five * 0.3)
            for five, ten in zip(self.minutes_of_5s, self.minutes_of_10s, strict=True)
        )
        return low, high


def _family(pattern: str, credits_per_second: int, five: tuple[float, float], ten: tuple[float, float]) -> Family:
    return Family(re.compile(pattern), credits_per_second, five, ten)


FAMILIES = (
    _family(r"kling.*master", 588_000, (5, 6), (11, 14)),
    _family(r"kling.*turbo", 147_000, (1, 2), (2, 4)),
    _family(r"kling.*pro", 206_000, (4, 6), (7, 11)),
    _family(r"kling", 117_640, (3, 4), (6, 8)),
    _family(r"veo|sora", 840_000, (1, 3), (2, 5)),
    _family(r"fast|flash|lite|turbo|draft", 84_000, (0.5, 1.5), (1, 2.5)),
    _family(r"", 210_000, (1.5, 4), (3, 7)),
)


def family(model: str) -> Family:
    """The first family whose pattern the model's name holds."""
    return next(each for each in FAMILIES if each.pattern.search(model))


def clip_seconds(body: dict[str, object]) -> float:
    """The length a request asks for: 5 s unless `duration` says otherwise, as a number or as digits."""
    try:
        return max(1.0, float(str(body.get("duration", 5))))
    except ValueError:
        return 5.0


def usd(credits_spent: int) -> Decimal:
    """Credits in USD, exact."""
    return Decimal(credits_spent) / CREDITS_PER_USD
