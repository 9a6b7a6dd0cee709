"""When to poll for something that ends at an unknown moment: the schedule that costs least, for a known distribution.

A poll has a cost, in seconds of delay that it is worth; noticing late costs the delay itself. This is the optimal
inspection policy of Barlow and Proschan (1965). With F the distribution of the time T, S = 1 - F, G the integral of F,
and W(t) the least cost still to come (weighted by S) after a poll at age t that saw nothing:

    W(t) = min over s > t of  cost · S(t) + G(s) - G(t) - (s - t) · F(t) + W(s)

It is solved backwards on a grid. Times are in seconds.

The distribution is lognormal and is learned (`generation_times.py`):
- Nothing has ended yet: the first guess may be wrong by a factor of ten. A few generations are scouts. Each is polled
  at ages that grow by a factor (exponential search: Bentley and Yao, 1976), a little apart from those of the other
  scouts, and more often around the guess. All other generations wait for what the scouts find.
- Some have ended: the distribution is fitted to these and to the ages of the unfinished ones, which are censored times
  (survival analysis; `fit`). It is wide while few have ended. Every generation follows its optimal
  schedule; while few have ended, polls that were planned for later are brought forward.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass

GRID = 320  # points; a schedule takes 1 to 3 ms to compute
GRID_SIGMAS = -4.5, 4.0  # the ages that the grid spans, around the median…
GRID_LOG = 2.5  # …and at most so many natural logarithms, for a wide distribution
TAIL_WEIGHT = 0.01
"""The share of generations that take unusually long or short. Without it, stragglers are polled ever more often."""
TAIL_SIGMA = 1.0
LONGEST_SECONDS = 6 * 3_600.0  # that a quantile may be: a longer time is a clock that was set, not a video
Z_90, Z_99 = 1.2816, 2.3263  # of a normal distribution, 90 % and 99 % lie below the mean and so many sigmas
TAIL_STEP = 0.1  # of the age, between two polls of what has outlived the grid


def normal_cdf(z: float) -> float:
    """The standard normal distribution function."""
    return 0.5 * math.erfc(-z / math.sqrt(2))


@dataclass(frozen=True, slots=True)
class TimeDistribution:
    """Lognormal generation times: `mu` and `sigma` of the logarithm of seconds, and a share with a heavy tail."""

    mu: float
    sigma: float
    tail: float = TAIL_WEIGHT

    @property
    def median(self) -> float:
        return math.exp(self.mu)

    def quantile(self, z: float) -> float:
        """The seconds within which a share of the usual generations ends: nine of ten with `Z_90`."""
        return math.exp(min(self.mu + z * self.sigma, math.log(LONGEST_SECONDS)))

    def parts(self) -> tuple[tuple[float, float], ...]:
        """Weight and sigma of each lognormal in the mixture."""
        return ((1 - self.tail, self.sigma), (self.tail, max(TAIL_SIGMA, self.sigma)))

    def cdf(self, t: float) -> float:
        """F(t): the share that takes at most `t` seconds."""
        if t <= 0:
            return 0.0
        z = math.log(t) - self.mu
        return sum(weight * normal_cdf(z / sigma) for weight, sigma in self.parts())

    def integral(self, t: float) -> float:
        """G(t): F integrated from 0 to `t`."""
        if t <= 0:
            return 0.0
        z = math.log(t) - self.mu
        return sum(
            weight * (t * normal_cdf(z / sigma) - math.exp(self.mu + sigma * sigma / 2) * normal_cdf(z / sigma - sigma))
            for weight, sigma in self.parts()
        )


class PollSchedule:
    """The best next poll after any age, for one distribution and one cost of a poll in seconds."""

    def __init__(self, times: TimeDistribution, poll_cost_seconds: float, grid: int = GRID) -> None:
        below, above = GRID_SIGMAS
        first = math.exp(times.mu + max(below * times.sigma, -GRID_LOG))
        last = math.exp(times.mu + min(above * times.sigma, GRID_LOG))
        step = (last - first) / grid
        self.ages = [0.0, *(first + step * number for number in range(grid + 1))]
        self.following = self.solve(times, poll_cost_seconds)

    def solve(self, times: TimeDistribution, poll_cost_seconds: float) -> list[int]:
        """For each age of the grid, the index of the age of the next poll."""
        ages = self.ages
        ended = [times.cdf(age) for age in ages]
        area = [times.integral(age) for age in ages]
        last = len(ages) - 1
        following = [last] * len(ages)
        # `ahead` is the part of the cost of a poll that depends on its age alone: G(s) + W(s).
        ahead = [0.0] * len(ages)
        ahead[last] = area[last]  # the cost past the grid is left out: few generations come there
        for here in range(last - 1, -1, -1):
            share = ended[here]
            best, choice = math.inf, last
            # The argmin is monotone, as F grows with age: the search may stop at the choice of the next age.
            for there in range(here + 1, following[here + 1] + 1):
                candidate = ahead[there] - ages[there] * share
                if candidate < best:
                    best, choice = candidate, there
            following[here] = choice
            ahead[here] = best + poll_cost_seconds * (1 - share) + ages[here] * share
        return following

    def after(self, age: float) -> float:
        """The age of the next poll of a generation that was still at work at `age`."""
        index = bisect_right(self.ages, age) - 1
        if index >= len(self.ages) - 1:
            return age * (1 + TAIL_STEP)
        return max(self.ages[self.following[index]], self.ages[index + 1])
