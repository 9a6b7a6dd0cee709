"""When to fetch a generation: few looks while it cannot be ready, closer ones when it is likely to be.

The distribution of generation times is kept per model and clip length. It starts from what the service measures or,
where it tells nothing, from what is documented, and every finished generation sharpens it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from batchgen.catalogue import typical_seconds
from batchgen.jobs import Job
from batchgen.jobtable.timings import Timing
from batchgen.limits.poll_schedule import PollSchedule, Times

PRICE = 0.0024
"""What a look is worth, as a part of the median: 0.5 s of delay for a generation of 210 s, so about 8 looks for 4 s."""
PRIOR_WEIGHT = 2.0  # generations that the first guess counts for
PRIOR_SIGMA = 0.3
SHORTEST_SECONDS = 0.05
LATE_SECONDS = 300.0
WORTH_RECOMPUTING = 1.25  # so many times the generations that the looks in use were made from
NINE_OF_TEN = 1.2816  # of a normal distribution lie below its mean and so many sigmas


@dataclass(slots=True)
class Known:
    """A distribution in use, and the looks made from it."""

    timing: Timing
    poll_schedule: PollSchedule


class GenerationTimes:
    """Knows how long generations take, and so when to look.

    `measured` holds medians in seconds by model, from the service; `timings` what the table has learned.
    """

    def __init__(self, measured: Mapping[str, float], timings: Mapping[tuple[str, str], Timing]) -> None:
        self._measured = measured
        self._timings = dict(timings)
        self._known: dict[tuple[str, str], Known] = {}

    def first_guess(self, model: str, duration: str) -> float:
        """The median generation time to start from, in seconds."""
        try:
            documented = typical_seconds(model, float(duration))
        except ValueError:
            documented = typical_seconds(model, None)
        if model not in self._measured:
            return documented
        return self._measured[model] * documented / typical_seconds(model, None)

    def times(self, model: str, duration: str) -> Times:
        """The distribution as it is known now: the first guess and all that was learned, weighed together."""
        guess = math.log(self.first_guess(model, duration))
        seen = self._timings.get((model, duration)) or Timing()
        weight = PRIOR_WEIGHT + seen.count
        mu = (PRIOR_WEIGHT * guess + seen.count * seen.log_mean) / weight
        spread = PRIOR_WEIGHT * PRIOR_SIGMA**2 + seen.log_m2
        spread += PRIOR_WEIGHT * seen.count / weight * (seen.log_mean - guess) ** 2
        return Times(mu, max(math.sqrt(spread / weight * (1 + 1 / weight)), 0.01))

    def longest(self, model: str, request: str) -> timedelta:
        """The time within which nine of ten such generations end."""
        times = self.times(model, duration_of(request))
        return timedelta(seconds=math.exp(times.mu + NINE_OF_TEN * times.sigma))

    def learn(self, model: str, duration: str, timing: Timing) -> None:
        """Take over what the table knows now; the looks follow once it is worth working them out again."""
        self._timings[model, duration] = timing
        known = self._known.get((model, duration))
        if known and timing.count >= known.timing.count * WORTH_RECOMPUTING:
            del self._known[model, duration]

    def poll_schedule(self, model: str, duration: str) -> PollSchedule:
        known = self._known.get((model, duration))
        if known is None:
            times = self.times(model, duration)
            timing = self._timings.get((model, duration)) or Timing()
            known = self._known[model, duration] = Known(timing, PollSchedule(times, PRICE * times.median))
        return known.poll_schedule

    def next_poll_at(self, job: Job, submitted_at: datetime, deadline_at: datetime, now: datetime) -> datetime:
        """When to fetch a generation next that was not finished at `now`."""
        if now >= deadline_at:
            return now + timedelta(seconds=LATE_SECONDS)
        age = max((now - submitted_at).total_seconds(), 0.0)
        after = self.poll_schedule(job.model, duration_of(job.request)).after(age)
        return max(submitted_at + timedelta(seconds=after), now + timedelta(seconds=SHORTEST_SECONDS))


def duration_of(request: str) -> str:
    """The clip's length as a request names it; "" where it names none."""
    return str(json.loads(request).get("duration", ""))


def backoff(failures: int, first_seconds: float, longest_seconds: float) -> timedelta:
    """A pause that doubles with each failure in a row. `failures` counts the failures so far, this one included."""
    return timedelta(seconds=min(first_seconds * 2 ** min(failures - 1, 30), longest_seconds))
