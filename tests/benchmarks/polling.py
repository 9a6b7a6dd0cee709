"""Polls a video and seconds of notice: a fixed interval of ten seconds, batchgen's schedule, and the optimum.

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
from batchgen.limits.generation_times import POLL_COST, GenerationTimes
from batchgen.limits.poll_schedule import PollSchedule, TimeDistribution
from tests.benchmarks.measure import Figure

MEDIAN_SECONDS, SIGMA = 210.0, 0.18
MODEL, DURATION = "kling-video/v2.1/standard/image-to-video", "5"
FIXED_SECONDS = 10.0
FINE_GRID = 900

After = Callable[[float], float]


@dataclass(frozen=True, slots=True)
class Score:
    """What a policy costs: polls a video, and the notice in seconds, mean and 95th percentile."""

    polls: float
    notice: float
    late: float


def draw(number: int, seed: int = 1) -> list[float]:
    """Generation times in seconds."""
    chance = random.Random(seed)
    return [math.exp(chance.gauss(math.log(MEDIAN_SECONDS), SIGMA)) for _ in range(number)]


def score(after: After, times: Sequence[float]) -> Score:
    """Follow each generation with one policy."""
    polls, notices = 0, []
    for seconds in times:
        age = 0.0
        while age < seconds:
            age = after(age)
            polls += 1
        notices.append(age - seconds)
    return Score(polls / len(times), statistics.fmean(notices), statistics.quantiles(notices, n=20)[-1])


def best(notice: float, times: Sequence[float]) -> Score:
    """The policy that knows the distribution, on a fine grid, priced so that its mean notice is `notice`."""
    exact = TimeDistribution(math.log(MEDIAN_SECONDS), SIGMA, tail=0.0)
    low, high = 0.02, 60.0
    result = score(PollSchedule(exact, high, FINE_GRID).after, times)
    for _ in range(12):
        price = math.sqrt(low * high)
        result = score(PollSchedule(exact, price, FINE_GRID).after, times)
        low, high = (low, price) if result.notice > notice else (price, high)
    return result


def schedule() -> PollSchedule:
    """batchgen's poll schedule for the exact distribution."""
    return PollSchedule(TimeDistribution(math.log(MEDIAN_SECONDS), SIGMA), POLL_COST * MEDIAN_SECONDS)


def learned(times: Sequence[float], guess: float, in_flight: int = 10) -> Score:
    """batchgen from a cold start that expects `guess` seconds, and learns as its polls see generations end."""
    generation_times = GenerationTimes({MODEL: guess}, {})
    timing = Timing()
    waiting = iter(times)
    running: list[tuple[float, int, float, float, float, int]] = []
    polls, notices = 0, []

    def begin(now: float, number: int) -> None:
        if (seconds := next(waiting, None)) is not None:
            first = generation_times.poll_schedule(MODEL, DURATION).after(0.0)
            heapq.heappush(running, (now + first, number, now, seconds, 0.0, 1))

    for number in range(in_flight):
        begin(0.0, number)
    number = in_flight
    while running:
        at, own, began, seconds, before, count = heapq.heappop(running)
        age = at - began
        if age < seconds:
            after = generation_times.poll_schedule(MODEL, DURATION).after(age)
            heapq.heappush(running, (began + after, own, began, seconds, age, count + 1))
            continue
        polls += count
        notices.append(age - seconds)
        timing = timing.with_one((max(before, age / 2) + age) / 2)
        generation_times.learn(MODEL, DURATION, timing)
        begin(at, number)
        number += 1
    return Score(polls / len(times), statistics.fmean(notices), statistics.quantiles(notices, n=20)[-1])


def figures() -> Iterator[Figure]:
    times = draw(1000)
    few = times[:300]
    for name, result, sample in (
        ("every 10 s (the documented example)", score(lambda age: age + FIXED_SECONDS, times), times),
        ("batchgen, distribution known", score(schedule().after, times), times),
        ("batchgen, 300 videos from a cold start", learned(few, MEDIAN_SECONDS), few),
        ("batchgen, the first guess a third too low", learned(few, 140.0), few),
    ):
        bound = best(result.notice, sample)
        yield Figure(
            f"polls a video: {name}",
            f"{result.polls:.1f} for {result.notice:.1f} s of notice (p95 {result.late:.1f} s)",
            f"the optimum at the same mean notice: {bound.polls:.1f}; {result.polls / bound.polls:.2f} ×",
        )
