"""AIMD with slow start: learns an account's limits from the requests that the service accepts and refuses.

Slow start raises a limit with every accepted request until the first refusal shows where it lies; from then on, a whole
window of accepted requests raises it by a step (additive increase) and a refusal lowers it by a share (multiplicative
decrease). This is the congestion control of TCP (Jacobson 1988, Chiu and Jain 1989), made patient: a refused request is
never worth much here, so each failed probe doubles the wait for the next one.

Pure arithmetic: nothing here reads a clock, a table or a socket. Successes are counted rather than seconds, so that
services of seconds and of minutes are learned alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import NamedTuple

from batchgen.services.outcomes import Limit, Throttled

SLOW_START_LEAD = 2  # requests on the wire beyond what was accepted: about so many are refused when slow start ends
STEP_SHARE = 1 / 32  # of the window: the first additive increase, and the lead of slow start where that is more
SHORTEST_INTERVAL = 32  # successes before a probe, for a small window: fewer would have more than 2 % refused
MOST_DOUBLINGS = 5  # of a step, or of the interval between two probes
DECREASE = 1 / 32  # of the window, at the first refusal in a row; it doubles with each one that follows
LARGEST_DECREASE = 1 / 2
LEAST = 1.0  # requests a minute: what falls lower is an outage, and a request that is refused costs nothing
MARGIN = 0.98  # of the rate measured when slow start ends: requests that leave evenly do not arrive evenly
FEWEST_TO_MEASURE = 2  # accepted requests that show a rate, while none is known; one alone has no rate
FEWEST_TO_CORRECT = 10  # accepted requests by which a known rate is corrected; fewer tell more of chance
IDLE_INTERVALS = 4  # between two requests at a rate: after a longer pause, it was not the rate that held them back
MINUTE = timedelta(minutes=1)
"""The period for which services state their rates: a rate is measured over no more."""
BACKOFFS_IN_A_MINUTE = 5
"""Refusals in a row after which the backoff has lasted a minute: 2 + 4 + 8 + 16 + 32 seconds."""
SMALL_WINDOW = 4
"""Generations in flight: a smaller window is learned anew by the next run, at the price of a refused request or two."""


@dataclass(frozen=True, slots=True)
class LearnedLimit:
    """One limit under AIMD: generations in flight, or requests a minute."""

    window: float | None = None
    """How many are allowed now. None: nothing was accepted yet (in flight), or nothing was refused yet (rate)."""
    threshold: float | None = None
    """The highest window that has held since the last refusal; a window above it is a probe. None: slow start."""
    failed_probes: int = 0
    """Probes in a row that were refused; the end of slow start and a decrease count as one. Negative: so many held."""
    successes: int = 0
    """Requests accepted with the whole window in use, since it last changed."""


class LearnedLimits(NamedTuple):
    """What is learned of one account and model."""

    in_flight: LearnedLimit = LearnedLimit()
    rate: LearnedLimit = LearnedLimit()


def allowed_in_flight(limit: LearnedLimit, accepted: int) -> int:
    """How many generations may be at work or on the wire, while `accepted` are at work."""
    window = int(limit.window or 0)
    lead = max(SLOW_START_LEAD, int(accepted * STEP_SHARE))
    return max(window, accepted + lead) if limit.threshold is None else max(window, 1)


def accepted_in_flight(limit: LearnedLimit, accepted: int, on_wire: int) -> LearnedLimit:
    """The limit after a request was accepted: `accepted` generations are at work now, `on_wire` requests under way."""
    allowed = allowed_in_flight(limit, accepted)
    if limit.threshold is None:
        return replace(limit, window=allowed)
    return increase(limit) if accepted + on_wire >= allowed else limit


def increase(limit: LearnedLimit) -> LearnedLimit:
    """Additive increase, for a request accepted with the whole window in use; nothing in slow start.

    A whole window of successes lets a larger one be probed. A probe that holds for as long doubles the next step.
    """
    if limit.window is None or limit.threshold is None:
        return limit
    successes = limit.successes + 1
    doublings = min(max(limit.failed_probes, 0), MOST_DOUBLINGS)
    if successes < max(limit.window, SHORTEST_INTERVAL) * 2**doublings:
        return replace(limit, successes=successes)
    held = limit.window > limit.threshold
    failed_probes = min(limit.failed_probes, 0) - 1 if held else limit.failed_probes
    step = max(1.0, limit.window * STEP_SHARE) * 2 ** min(max(-failed_probes, 0), MOST_DOUBLINGS)
    return LearnedLimit(limit.window + step, limit.window, failed_probes)


def decrease(limit: LearnedLimit, measured: float | None, in_a_row: int = 1) -> LearnedLimit:
    """The limit after a refusal, the `in_a_row`th since a request was accepted; `measured`: what the limit seems to be.

    The first refusal ends slow start at what was measured. A refused probe goes back to the threshold. Any other shows
    that the limit is lower than it was: multiplicative decrease.
    """
    if limit.window is None or limit.threshold is None:
        window, failed_probes = measured, 1  # slow start ends: the window becomes the threshold, too
    elif limit.window > limit.threshold and in_a_row == 1:
        window, failed_probes = limit.threshold, max(limit.failed_probes, 0) + 1
    else:
        lowest = limit.threshold * (1 - LARGEST_DECREASE)
        window, failed_probes = limit.threshold * (1 - min(DECREASE * 2 ** (in_a_row - 1), LARGEST_DECREASE)), 1
        window = window if measured is None else max(min(window, measured), lowest)
    return limit if window is None else LearnedLimit(max(window, LEAST), max(window, LEAST), failed_probes)


def measured_rate(
    limit: LearnedLimit, accepted: Sequence[datetime], until: datetime, fewest: int = FEWEST_TO_MEASURE
) -> float | None:
    """Requests a minute: those that were `accepted` (oldest first), by the time to the end of the pause (`until`).

    Only those count that followed one another as fast as the limit allowed. None where they are too few.
    """
    slow_start = limit.threshold is None or limit.window is None
    longest_gap = MINUTE if slow_start else timedelta(minutes=IDLE_INTERVALS / (limit.window or LEAST))
    number = min(len(accepted), 1)
    while number < len(accepted) and accepted[-number] - accepted[-number - 1] <= longest_gap:
        number += 1
    if number < (fewest if slow_start else FEWEST_TO_CORRECT):
        return None
    per_minute = number * MINUTE / max(until - accepted[-number], timedelta(milliseconds=1))
    return per_minute * MARGIN if slow_start else per_minute


def for_new_run(limit: LearnedLimit, least: float) -> LearnedLimit:
    """The limit with which a new run begins: it probes soon, and one that is lower than `least` is not believed."""
    window, threshold = limit.window, limit.threshold
    if window is not None:
        window, threshold = max(window, least), max(threshold, least) if threshold is not None else None
    return LearnedLimit(window, threshold, min(limit.failed_probes, 0))


def limit_of(limit: LearnedLimit, refusal: Throttled, in_flight: int, in_a_row: int) -> Limit:
    """Which limit a refusal is for: by the service's own words, else by what was in flight.

    Where neither tells, it is taken to be for the rate, which costs little if it is wrong; but where the request is
    refused again after the whole wait, with nothing accepted in between, it is for the generations in flight.
    """
    if refusal.limit:
        return refusal.limit
    # A generation that has ended may not have been noticed yet, so one or a few less count as full.
    full = limit.threshold is not None and in_flight >= limit.threshold - max(1.0, limit.threshold * STEP_SHARE)
    again = in_a_row > (1 if refusal.retry_after else BACKOFFS_IN_A_MINUTE)
    return Limit.IN_FLIGHT if in_flight and (full or again) else Limit.RATE
