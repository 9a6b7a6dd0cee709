"""How long generations take, and so when to poll: seldom while one cannot be finished, often when it is likely to be.

Times are taken to be lognormal, by model and clip length. The distribution starts from the service's own figures or
else the documented ones, and every finished generation sharpens it; the table keeps mean and variance by Welford's
method (`jobtable/timings.py`), so that learning is one row.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import datetime, timedelta

from batchgen.catalogue import typical_seconds
from batchgen.jobs import Job
from batchgen.jobtable.timings import Timing
from batchgen.limits.poll_schedule import PollSchedule, TimeDistribution

POLL_COST = 0.0024
"""What a poll is worth, as a share of the median: 0.5 s of delay for a generation of 210 s, so about 8 polls."""
PRIOR_WEIGHT = 2.0  # generations that the first guess counts for
PRIOR_SIGMA = 0.3
SHORTEST_SECONDS = 0.05  # between two polls of a generation
LATE_SECONDS = 300.0  # between two polls of a generation that is past its deadline
WORTH_RECOMPUTING = 1.25  # times as many generations as the poll schedule in use was made from
Z_90, Z_99 = 1.2816, 2.3263  # of a normal distribution, 90 % and 99 % lie below the mean and so many sigmas
NOTHING_LEARNED = Timing()


class GenerationTimes:
    """The distribution of generation times by model and clip length, and the poll schedules that follow from it.

    `measured` holds medians in seconds by model, from the service; `timings` what the table has learned.
    """

    def __init__(self, measured: Mapping[str, float], timings: Mapping[tuple[str, str], Timing]) -> None:
        self._measured = measured
        self._timings = dict(timings)
        self._schedules: dict[tuple[str, str], tuple[int, PollSchedule]] = {}
        """The poll schedules in use, each with the number of generations that it was made from."""

    def first_guess(self, model: str, duration: str) -> float:
        """The median generation time to start from, in seconds."""
        try:
            documented = typical_seconds(model, float(duration))
        except ValueError:
            documented = typical_seconds(model, None)
        if model not in self._measured:
            return documented
        return self._measured[model] * documented / typical_seconds(model, None)

    def times(self, model: str, duration: str) -> TimeDistribution:
        """The distribution as far as it is known: the first guess and all that was learned, weighed together."""
        guess = math.log(self.first_guess(model, duration))
        timing = self._timings.get((model, duration), NOTHING_LEARNED)
        weight = PRIOR_WEIGHT + timing.count
        mu = (PRIOR_WEIGHT * guess + timing.count * timing.log_mean) / weight
        spread = PRIOR_WEIGHT * PRIOR_SIGMA**2 + timing.log_m2
        spread += PRIOR_WEIGHT * timing.count / weight * (timing.log_mean - guess) ** 2
        return TimeDistribution(mu, max(math.sqrt(spread / weight * (1 + 1 / weight)), 0.01))

    def p90(self, model: str, request: str) -> timedelta:
        """The time within which nine of ten such generations end."""
        return self._quantile(model, request, Z_90)

    def p99(self, model: str, request: str) -> timedelta:
        """The time within which 99 of 100 such generations end."""
        return self._quantile(model, request, Z_99)

    def _quantile(self, model: str, request: str, z: float) -> timedelta:
        times = self.times(model, duration_of(request))
        return timedelta(seconds=math.exp(times.mu + z * times.sigma))

    def learn(self, model: str, duration: str, timing: Timing) -> None:
        """Take over what the table has learned; the poll schedule follows once that is worth computing."""
        self._timings[model, duration] = timing
        generations, _ = self._schedules.get((model, duration), (timing.count, None))
        if timing.count >= generations * WORTH_RECOMPUTING:
            self._schedules.pop((model, duration), None)

    def poll_schedule(self, model: str, duration: str) -> PollSchedule:
        if (model, duration) not in self._schedules:
            times = self.times(model, duration)
            generations = self._timings.get((model, duration), NOTHING_LEARNED).count
            self._schedules[model, duration] = generations, PollSchedule(times, POLL_COST * times.median)
        return self._schedules[model, duration][1]

    def next_poll_at(self, job: Job, submitted_at: datetime, deadline_at: datetime, now: datetime) -> datetime:
        """When to poll next for a generation that was not finished at `now`."""
        if now >= deadline_at:
            return now + timedelta(seconds=LATE_SECONDS)
        age = max((now - submitted_at).total_seconds(), 0.0)
        after = self.poll_schedule(job.model, duration_of(job.request)).after(age)
        return max(submitted_at + timedelta(seconds=after), now + timedelta(seconds=SHORTEST_SECONDS))


def duration_of(request: str) -> str:
    """The clip's length as a request names it; "" where it names none."""
    return str(json.loads(request).get("duration", ""))


def backoff(failures: int, first_seconds: float, longest_seconds: float) -> timedelta:
    """Exponential backoff: a pause that doubles with each failure in a row. `failures` counts this one too."""
    return timedelta(seconds=min(first_seconds * 2 ** min(failures - 1, 30), longest_seconds))
