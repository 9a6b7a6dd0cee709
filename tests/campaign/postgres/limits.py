"""Whether a batch kept to its limits, by the service's ledger and the job table; and how soon its rate was back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from math import floor

from batchgen.limits.rate import TOLERANCE
from batchgen.simulator.ledger import Generation

WINDOW_SECONDS = 10.0
"""Over which a rate is measured: at five creates a second, one request more or less is two percent."""
RECOVERY_SECONDS = 10.0
"""Within which a rate must be back after the end of a fault."""
SHARE = 0.98
"""Of the rate before the fault, which must be reached again."""
STEP_SECONDS = 0.25
ROUNDING = timedelta(microseconds=10)
"""By which intervals of a rate that is no whole number of microseconds are rounded."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """The rate before a fault, the rate after it in creates a second, and how long after its end that was reached."""

    before: float
    after: float
    seconds: float | None
    """None if it was not reached in time; `after` is then the best rate within that time."""


def measure_recovery(created: Sequence[float], began: float, ended: float) -> Recovery:
    """The recovery of a rate after a fault, from the times of all accepted creates in seconds."""

    def rate(start: float) -> float:
        return sum(start <= moment < start + WINDOW_SECONDS for moment in created) / WINDOW_SECONDS

    before = rate(began - WINDOW_SECONDS)
    delays = [step * STEP_SECONDS for step in range(round(RECOVERY_SECONDS / STEP_SECONDS) + 1)]
    for delay in delays:
        if (after := rate(ended + delay)) >= SHARE * before:
            return Recovery(before, after, delay)
    return Recovery(before, max(rate(ended + delay) for delay in delays), None)


def early_submits(intents: Sequence[datetime], per_minute: float) -> int:
    """How many requests were admitted before the rate allowed them: GCRA, repeated over all workers' intents."""
    interval, free_at, early = timedelta(minutes=1 / per_minute), min(intents, default=None), 0
    for intent in sorted(intents):
        assert free_at
        early += intent < free_at - TOLERANCE - ROUNDING
        free_at = max(free_at, intent) + interval
    return early


def crowded_submits(sent: Sequence[tuple[datetime, datetime]], per_minute: float) -> int:
    """By how many requests the worst minute of the service's ledger exceeds the rate, from pairs (intent, arrival).

    A request that was claimed before the minute and came late is not counted in it: its place was in another one.
    """
    minute = timedelta(minutes=1) - TOLERANCE
    ordered = sorted(sent, key=lambda pair: pair[1])
    worst = 0
    for _, start in ordered:
        inside = sum(start <= arrival < start + minute and intent >= start for intent, arrival in ordered)
        worst = max(worst, inside - round(per_minute))
    return worst


def excess_in_flight(generations: Sequence[Generation], most: int) -> int:
    """By how many generations the fullest moment at the service exceeds the limit."""
    changes = sorted(changes_of(generations))
    number = fullest = 0
    for _, change in changes:
        number += change
        fullest = max(fullest, number)
    return max(0, fullest - most)


def changes_of(generations: Sequence[Generation]) -> Iterator[tuple[str, int]]:
    """When a generation began or ended; an end comes before a beginning at the same moment."""
    for generation in generations:
        yield generation.created_at, 1
        if generation.finishes_at:
            yield generation.finishes_at, -1


def affordable(costs: Sequence[Decimal], max_cost: Decimal) -> int:
    """How many more generations of the same price a budget has; below zero where it is exceeded."""
    price = max(costs, default=max_cost)
    return floor((max_cost - sum(costs)) / price)
