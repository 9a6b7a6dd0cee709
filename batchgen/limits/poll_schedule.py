"""When to look at something that ends at an unknown moment: the looks that cost least, for a known distribution.

A look has a price, in seconds of delay that it is worth; noticing late costs the delay itself. With F the distribution
of the time T, S = 1 - F, G the integral of F, and W(t) the least cost still to come (weighted by S) for somebody who
has just looked at age t and seen nothing:

    W(t) = min over s > t of  price · S(t) + G(s) - G(t) - (s - t) · F(t) + W(s)

This is the inspection policy of Barlow and Proschan, solved backwards on a grid. Times in seconds.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass

GRID = 320  # points; a table of looks takes 1 to 3 ms to make
TAIL_WEIGHT = 0.01
"""The share of generations that takes no heed of the others: without it, a straggler would be asked for ever faster."""
TAIL_SIGMA = 1.0
TAIL_STEP = 0.1  # of the age, between two looks at what has outlived the grid
TAIL_LOOKS = 40


def normal(z: float) -> float:
    """The standard normal distribution function."""
    return 0.5 * math.erfc(-z / math.sqrt(2))


@dataclass(frozen=True, slots=True)
class Times:
    """Lognormal generation times: `mu` and `sigma` of the logarithm of seconds, and a share with a heavy tail."""

    mu: float
    sigma: float
    tail: float = TAIL_WEIGHT

    @property
    def median(self) -> float:
        return math.exp(self.mu)

    def parts(self) -> tuple[tuple[float, float], ...]:
        """Weight and sigma of each lognormal in the mixture."""
        return ((1 - self.tail, self.sigma), (self.tail, max(TAIL_SIGMA, self.sigma)))

    def cdf(self, t: float) -> float:
        """F(t): the share that takes at most `t` seconds."""
        if t <= 0:
            return 0.0
        z = math.log(t) - self.mu
        return sum(weight * normal(z / sigma) for weight, sigma in self.parts())

    def integral(self, t: float) -> float:
        """G(t): F integrated from 0 to `t`."""
        if t <= 0:
            return 0.0
        z = math.log(t) - self.mu
        return sum(
            weight * (t * normal(z / sigma) - math.exp(self.mu + sigma * sigma / 2) * normal(z / sigma - sigma))
            for weight, sigma in self.parts()
        )


class PollSchedule:
    """The best next look after any age, for one distribution and one price of a look in seconds."""

    def __init__(self, times: Times, price: float, grid: int = GRID) -> None:
        first = math.exp(times.mu - min(4.5 * times.sigma, 2.5))
        last = math.exp(times.mu + min(4.0 * times.sigma, 2.5))
        step = (last - first) / grid
        self.ages = [0.0, *(first + step * place for place in range(grid + 1))]
        self.following = self.solve(times, price)

    def solve(self, times: Times, price: float) -> list[int]:
        """For each age of the grid, the place of the age at which to look next."""
        ages = self.ages
        done = [times.cdf(age) for age in ages]
        area = [times.integral(age) for age in ages]
        last = len(ages) - 1
        following = [last] * len(ages)
        # `ahead` is what of the cost of a look depends on its age alone: G(s) + W(s).
        ahead = [0.0] * len(ages)
        ahead[last] = area[last] + self.cost_beyond(times, price)
        for here in range(last - 1, -1, -1):
            share = done[here]
            best, choice = math.inf, last
            # Who looks later has his next look later: the search ends where that of the age before did.
            for there in range(here + 1, following[here + 1] + 1):
                cost = ahead[there] - ages[there] * share
                if cost < best:
                    best, choice = cost, there
            following[here] = choice
            ahead[here] = best + price * (1 - share) + ages[here] * share
        return following

    def cost_beyond(self, times: Times, price: float) -> float:
        """What is still to be paid past the grid, where looks come in proportion to the age."""
        cost, age = 0.0, self.ages[-1]
        for _ in range(TAIL_LOOKS):
            after, share = age * (1 + TAIL_STEP), times.cdf(age)
            cost += price * (1 - share) + times.integral(after) - times.integral(age) - (after - age) * share
            age = after
        return cost

    def after(self, age: float) -> float:
        """The age at which to look next at something that was still at work at `age`."""
        place = bisect_right(self.ages, age) - 1
        if place >= len(self.ages) - 1:
            return age * (1 + TAIL_STEP)
        return max(self.ages[self.following[place]], self.ages[place + 1])
