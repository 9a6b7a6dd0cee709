"""When a batch will be done: a Monte Carlo simulation of its slots, each of which holds one generation in flight.

The random numbers begin from a fixed seed, so the same question has the same answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heapify, heapreplace
from random import Random

from batchgen.limits.poll_schedule import Z_90, TimeDistribution

GENERATIONS = 100_000
"""Generations simulated in all. A small batch is simulated more often than a large one, whose end varies less."""
MOST_SIMULATIONS, FEWEST_SIMULATIONS = 400, 5
REDRAWS = 20  # draws in search of a time longer than a generation's age
LATEST_SECONDS = 100 * 365.25 * 86_400  # an end beyond a century is no date that anybody plans with
OVERDUE_SHARE = 0.1  # of its age: what is taken to be left of it if no draw is longer


@dataclass(frozen=True, slots=True)
class Forecast:
    """Seconds from now until the last generation ends: at most `p50` in half of the simulations, `p90` in nine of ten.

    `chosen` has a 1 for each job that the median simulation submits.
    """

    p50: float
    p90: float
    chosen: bytes

    @property
    def sent(self) -> int:
        """How many jobs are submitted."""
        return self.chosen.count(1)


def forecast(
    waiting: Sequence[TimeDistribution],
    running: Sequence[tuple[TimeDistribution, float]],
    in_flight: int,
    per_minute: float,
    until: float | None = None,
) -> Forecast:
    """Simulate `waiting` jobs in `in_flight` slots, some of them taken by `running` generations (times and age).

    With `until`, a job is submitted where nine of ten such generations end before it.
    """
    random = Random(0)  # noqa: S311 - nothing secret
    interval = 60 / per_minute

    def simulate() -> tuple[float, bytes]:
        """One run: when the last generation ends, and which jobs were submitted."""
        slots = [remaining(times, age, random) for times, age in running]
        end = max(slots, default=0.0)
        # Where more generations are running than are allowed, nothing is submitted until enough of them have ended.
        slots = [0.0] * (in_flight - len(slots)) + sorted(slots)[-in_flight:]
        heapify(slots)
        chosen, sent = bytearray(len(waiting)), 0
        for number, times in enumerate(waiting):
            start = max(slots[0], sent * interval)
            if until is not None and start + times.quantile(Z_90) > until:
                continue
            done = start + draw(times, random)
            heapreplace(slots, done)
            end = max(end, done)
            chosen[number] = 1
            sent += 1
        return end, bytes(chosen)

    simulations = max(FEWEST_SIMULATIONS, min(MOST_SIMULATIONS, GENERATIONS // max(len(waiting) + len(running), 1)))
    results = [simulate() for _ in range(simulations)]
    ends = sorted(min(end, LATEST_SECONDS) for end, _ in results)
    choices = sorted((chosen for _, chosen in results), key=lambda chosen: chosen.count(1))
    late = min(simulations - 1, simulations * 9 // 10)
    return Forecast(ends[simulations // 2], ends[late], choices[simulations // 2])


def draw(times: TimeDistribution, random: Random) -> float:
    """One generation time in seconds."""
    (_, sigma), (tail, wide) = times.parts()
    return random.lognormvariate(times.mu, wide if random.random() < tail else sigma)


def remaining(times: TimeDistribution, age: float, random: Random) -> float:
    """The seconds that are left of a generation of this age."""
    for _ in range(REDRAWS):
        if (seconds := draw(times, random)) > age:
            return seconds - age
    return age * OVERDUE_SHARE
