"""Looks a video and seconds of notice: the fixed loop of ten seconds, batchgen's looks, and the best there can be.

A thousand generation times are drawn once, lognormal with median 210 s and sigma 0.18, and every policy meets the same.
"""

from __future__ import annotations

import heapq
import math
import random
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from batchgen.jobtable.timings import Timing
from batchgen.limits.generation_times import PRICE, GenerationTimes
from batchgen.limits.poll_schedule import PollSchedule, Times
from tests.benchmarks.measure import Figure

MEDIAN_SECONDS, SIGMA = 210.0, 0.18
MODEL, DURATION = "kling-video/v2.1/standard/image-to-video", "5"
FIXED_SECONDS = 10.0
FINE_GRID = 900

After = Callable[[float], float]


@dataclass(frozen=True, slots=True)
class Score:
    """What a policy costs: looks a video, and the notice in seconds, mean and 95th percentile."""

    looks: float
    notice: float
    late: float


def draw(number: int, seed: int = 1) -> list[float]:
    """Generation times in seconds."""
    chance = random.Random(seed)
    return [math.exp(chance.gauss(math.log(MEDIAN_SECONDS), SIGMA)) for _ in range(number)]


def score(after: After, times: Sequence[float]) -> Score:
    """Follow each generation with one policy."""
    looks, notices = 0, []
    for seconds in times:
        age = 0.0
        while age < seconds:
            age = after(age)
            looks += 1
        notices.append(age - seconds)
    return Score(looks / len(times), statistics.fmean(notices), statistics.quantiles(notices, n=20)[-1])


def best(notice: float, times: Sequence[float]) -> Score:
    """The policy that knows the distribution, on a fine grid, priced so that its mean notice is `notice`."""
    known = Times(math.log(MEDIAN_SECONDS), SIGMA, tail=0.0)
    low, high = 0.02, 60.0
    found = score(PollSchedule(known, high, FINE_GRID).after, times)
    for _ in range(12):
        price = math.sqrt(low * high)
        found = score(PollSchedule(known, price, FINE_GRID).after, times)
        low, high = (low, price) if found.notice > notice else (price, high)
    return found


def told() -> PollSchedule:
    """batchgen's looks, given the distribution."""
    return PollSchedule(Times(math.log(MEDIAN_SECONDS), SIGMA), PRICE * MEDIAN_SECONDS)


def learned(times: Sequence[float], guess: float, in_flight: int = 10) -> Score:
    """batchgen from a cold start that expects `guess` seconds, learning as its own looks find generations finished."""
    generation_times = GenerationTimes({MODEL: guess}, {})
    timing = Timing(0, 0.0, 0.0)
    waiting = iter(times)
    air: list[tuple[float, int, float, float, float, int]] = []
    looks, notices = 0, []

    def begin(now: float, number: int) -> None:
        if (seconds := next(waiting, None)) is not None:
            first = generation_times.poll_schedule(MODEL, DURATION).after(0.0)
            heapq.heappush(air, (now + first, number, now, seconds, 0.0, 1))

    for number in range(in_flight):
        begin(0.0, number)
    number = in_flight
    while air:
        at, own, began, seconds, before, count = heapq.heappop(air)
        age = at - began
        if age < seconds:
            after = generation_times.poll_schedule(MODEL, DURATION).after(age)
            heapq.heappush(air, (began + after, own, began, seconds, age, count + 1))
            continue
        looks += count
        notices.append(age - seconds)
        timing = timing.with_one((max(before, age / 2) + age) / 2)
        generation_times.learn(MODEL, DURATION, timing)
        begin(at, number)
        number += 1
    return Score(looks / len(times), statistics.fmean(notices), statistics.quantiles(notices, n=20)[-1])


def figures() -> Iterator[Figure]:
    times = draw(1000)
    few = times[:300]
    for name, got, among in (
        ("a look every 10 s (the documented example)", score(lambda age: age + FIXED_SECONDS, times), times),
        ("batchgen, distribution known", score(told().after, times), times),
        ("batchgen, 300 videos from a cold start", learned(few, MEDIAN_SECONDS), few),
        ("batchgen, the first guess a third too low", learned(few, 140.0), few),
    ):
        bound = best(got.notice, among)
        yield Figure(
            f"polls a video: {name}",
            f"{got.looks:.1f} for {got.notice:.1f} s of notice (p95 {got.late:.1f} s)",
            f"the optimum at the same mean notice: {bound.looks:.1f}; {got.looks / bound.looks:.2f} ×",
        )
