"""The bounds of values from outside: amounts, statuses, pauses, times and price lists. `boundary.py` applies them."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeGuard

from batchgen.catalogue.prices import USD_MAX
from batchgen.jobs import ChargeSource
from batchgen.services.base import Adoption, Cancelling, Features, Queueing
from batchgen.services.outcomes import PAUSE_MAX
from batchgen.services.text import BLOT, one_line

CHARGE_STEP = Decimal("1e-9")  # the smallest amount that is told apart; services count in credits of 0.0000005 USD
PRICING_CHARS = 200_000  # of the JSON of one model's prices
PRICING_DEPTH = 12  # the documented shapes nest 4 deep
EARLIEST, LATEST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
CLOCK_OFFSET_MAX = timedelta(days=1)  # between two clocks: a search of the log at another date would find nothing
ACCEPTED_WITHIN = timedelta(days=1)  # between the sending of a request and its acceptance, as clocks differ
ID_CHARS = 500  # of the id of a generation: the longest documented one has some 100
SPEED_MAX = 1_000_000.0  # times real speed, and likewise slower
KEPT_MAX = timedelta(days=3_650)  # for which a service keeps a file: what is longer needs no hurry


class OutOfBounds(Exception):
    """A value that cannot be taken, in words."""


def amount(usd: Decimal | None) -> Decimal | None:
    """An amount of money; None where it is none. A generation is not lost because its price is odd."""
    is_amount = isinstance(usd, Decimal) and usd.is_finite() and 0 <= usd < USD_MAX
    return usd if is_amount else None


def status(code: int | None) -> int | None:
    return code if isinstance(code, int) and 100 <= code <= 999 else None


def pause(duration: timedelta | None) -> timedelta | None:
    return min(max(duration, timedelta(0)), PAUSE_MAX) if isinstance(duration, timedelta) else None


def in_words(duration: timedelta) -> str:
    """A long pause in its largest unit: "16 hours"."""
    minutes = duration / timedelta(minutes=1)
    if minutes < 120:
        return f"{minutes:.0f} minutes"
    return f"{minutes / 60:.0f} hours" if minutes < 48 * 60 else f"{minutes / 1440:.0f} days"


def moment(time: datetime) -> datetime:
    """A time between 2000 and 2100. Raises `OutOfBounds` for any other."""
    if not isinstance(time, datetime) or not time.tzinfo or not EARLIEST < time.replace(tzinfo=UTC) < LATEST:
        raise OutOfBounds(f"its time is no moment with a time zone: {time}")
    return time


def is_near(accepted_at: datetime, intent_at: datetime) -> bool:
    """Whether a request that was sent at `intent_at` can have been accepted then, by another clock."""
    try:
        return abs(moment(accepted_at) - intent_at) <= ACCEPTED_WITHIN
    except OutOfBounds:
        return False


def bounded_features(features: Features) -> Features:
    """What a service can do. A time or a speed out of bounds counts as not said; another word is a `ValueError`."""
    kept, speed = features.keeps_results_for, features.speed
    is_time = isinstance(kept, timedelta) and timedelta(0) < kept <= KEPT_MAX
    is_speed = isinstance(speed, float | int) and 1 / SPEED_MAX <= speed <= SPEED_MAX
    return replace(
        features,
        adopt=Adoption(features.adopt),  # a plain string would be none of the members that code compares with `is`
        queueing=Queueing(features.queueing),
        cancel=Cancelling(features.cancel),
        charges=ChargeSource(features.charges),
        keeps_results_for=kept if is_time else None,
        speed=speed if is_speed else 1.0,
    )


def is_identity(text: object, most: int = ID_CHARS) -> TypeGuard[str]:
    """Whether a text, such as the id of a generation, can be kept exactly as it is."""
    return isinstance(text, str) and 0 < len(text) <= most and one_line(text, most) == text and BLOT not in text


def is_pricing(entry: str) -> bool:
    """Whether the JSON of a model's prices is an object of a sensible size and depth."""
    if len(entry) > PRICING_CHARS:
        return False
    values: list[Any] = [json.loads(entry)]
    if not isinstance(values[0], dict):
        return False
    for _ in range(PRICING_DEPTH):
        containers = [value for value in values if isinstance(value, dict | list)]
        values = [part for value in containers for part in (value.values() if isinstance(value, dict) else value)]
    return not any(isinstance(value, dict | list) for value in values)
