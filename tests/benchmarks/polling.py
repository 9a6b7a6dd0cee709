"""What polls cost: polls a video, notice, makespan, and the CPU time of a thousand videos in flight.

The schedules are simulated in virtual time, through the classes that a run uses. Generation times are drawn once,
lognormal with a sigma of 0.18, and every policy meets the same. *Notice* is the time from the end of a generation to
the poll that sees it. The optimum knows the distribution, and has the same mean notice.
"""

from __future__ import annotations

import heapq
import math
import random
import statistics
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from types import SimpleNamespace
from typing import Any

from batchgen.jobtable.timings import Timing
from batchgen.limits.generation_times import POLL_COST, GenerationTimes
from batchgen.limits.poll_schedule import PollSchedule, TimeDistribution
from batchgen.poller import ended_after
from tests.benchmarks import in_flight
from tests.benchmarks.makespan import perfect
from tests.benchmarks.measure import Figure

MEDIAN_SECONDS, SIGMA = 210.0, 0.18
MODEL, DURATION = "kling-video/v2.1/standard/image-to-video", 5.0  # documented with 210 s: the first guess
FIXED_SECONDS = 10.0
FINE_GRID = 900
PRICES = tuple(0.03 * 1.25**number for number in range(30))  # of a poll in seconds: from 0.03 to 19
START = datetime(2026, 1, 1, tzinfo=UTC)
NEVER = START + timedelta(days=365)
KNOWN_BOUND, COLD_BOUND, MAKESPAN_BOUND = 1.10, 1.25, 1.10

After = Callable[[float], float]


@dataclass(frozen=True, slots=True)
class Score:
    """What a policy costs: polls a video, the notice in seconds, mean and 95th percentile, and when the last ended."""

    polls: float
    notice: float
    late: float
    makespan: float = 0.0


def draw(number: int, seed: int = 1, factor: float = 1.0) -> list[float]:
    """Generation times in seconds; `factor` times as long as documented."""
    chance = random.Random(seed)
    return [math.exp(chance.gauss(math.log(factor * MEDIAN_SECONDS), SIGMA)) for _ in range(number)]


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


@cache
def optimal(price: float) -> PollSchedule:
    """The optimal schedule for the exact distribution, on a fine grid, where a poll costs so many seconds."""
    return PollSchedule(TimeDistribution(math.log(MEDIAN_SECONDS), SIGMA, tail=0.0), price, FINE_GRID)


@cache
def optimal_score(price: float, times: tuple[float, ...]) -> Score:
    """The same videos are asked about for every guess and every number of slots."""
    return score(optimal(price).after, times)


def fewest_polls(notice: float, times: Sequence[float]) -> float:
    """Polls a video of the optimum whose mean notice is `notice`: between those of the two nearest prices."""

    def optimum(price: float) -> Score:
        return optimal_score(price, tuple(times))

    at = bisect_left(PRICES, notice, lo=1, key=lambda price: optimum(price).notice)  # it rises with the price
    if at == len(PRICES):
        return optimum(PRICES[-1]).polls
    cheap, dear = optimum(PRICES[at - 1]), optimum(PRICES[at])
    share = max(0.0, (notice - cheap.notice) / (dear.notice - cheap.notice))
    return cheap.polls + share * (dear.polls - cheap.polls)


def schedule() -> PollSchedule:
    """batchgen's poll schedule for the exact distribution."""
    return PollSchedule(TimeDistribution(math.log(MEDIAN_SECONDS), SIGMA), POLL_COST * MEDIAN_SECONDS)


class ColdRun:
    """batchgen in virtual time, from the documented time alone: it learns as its polls see generations end."""

    def __init__(self, times: Sequence[float], slots: int) -> None:
        self.times, self.slots = times, slots
        self.learned, self.timing = GenerationTimes({}, {}), Timing()
        self.running: dict[int, Any] = {}
        self.due: list[tuple[datetime, int]] = []
        self.waiting = iter(enumerate(times))

    def play(self) -> Score:
        polls, notices, now = 0, [], START
        for _ in range(self.slots):
            self.submit(START)
        while self.running:
            now, number = heapq.heappop(self.due)
            job = self.running.get(number)
            if not job or job.next_at != now:
                continue  # it was brought forward
            polls += 1
            age = (now - job.submitted_at).total_seconds()
            if age < job.seconds:
                job.seen = age
                self.plan(job, self.learned.next_poll_at(job, job.submitted_at, NEVER, now))
                continue
            notices.append(age - job.seconds)
            self.end(job, age, now)
            self.submit(now)
        late = statistics.quantiles(notices, n=20)[-1]
        return Score(polls / len(self.times), statistics.fmean(notices), late, (now - START).total_seconds())

    def submit(self, now: datetime) -> None:
        if new := next(self.waiting, None):
            job: Any = SimpleNamespace(
                id=new[0], kind=(MODEL, DURATION), submitted_at=now, seconds=new[1], seen=0.0, next_at=now
            )
            self.running[job.id] = job
            self.plan(job, self.learned.next_poll_at(job, now, NEVER, now))

    def plan(self, job: Any, next_at: datetime) -> None:
        job.next_at = next_at
        heapq.heappush(self.due, (next_at, job.id))

    def end(self, job: Any, age: float, now: datetime) -> None:
        """Learn from a generation that was seen to have ended, and bring the polls of others forward."""
        del self.running[job.id]
        self.timing = self.timing.with_one(ended_after(job.seen, age))
        if self.learned.learn(job, self.timing):
            for other in self.running.values():
                best = other.submitted_at + timedelta(seconds=self.learned.next_age(other, other.seen))
                if max(best, now) < other.next_at:
                    self.plan(other, max(best, now))


@dataclass(frozen=True, slots=True)
class Ratios:
    """A cold run, beside the optimum with the same mean notice and beside a perfect scheduler."""

    score: Score
    polls: float
    makespan: float


@cache
def cold(factor: float, slots: int, number: int = 300, seed: int = 1) -> Ratios:
    """`number` videos that take `factor` times as long as documented, `slots` of them in flight, from a cold start."""
    times = draw(number, seed, factor)
    result = ColdRun(times, slots).play()
    fewest = fewest_polls(result.notice / factor, draw(number, seed))
    return Ratios(result, result.polls / fewest, result.makespan / perfect(times, slots))


def figures() -> Iterator[Figure]:
    times = draw(1000)
    for name, result, bound in (
        ("every 10 s (the documented example)", score(lambda age: age + FIXED_SECONDS, times), math.inf),
        ("batchgen, distribution known", score(schedule().after, times), KNOWN_BOUND),
    ):
        fewest = fewest_polls(result.notice, times)
        yield Figure(
            f"polls a video: {name}",
            f"{result.polls:.1f} for {result.notice:.1f} s of notice (p95 {result.late:.1f} s)",
            f"the optimum: {fewest:.1f}; {result.polls / fewest:.2f} ×" + (f" (≤ {bound} ×)" if bound < 9 else ""),
            result.polls <= bound * fewest if bound < 9 else None,
        )
    for factor, name in ((1.0, "as documented"), (0.1, "a tenth of it"), (10.0, "ten times as long")):
        runs = [cold(factor, 10, seed=seed) for seed in range(1, 9)]
        polls = statistics.fmean(run.polls for run in runs)
        makespan = statistics.fmean(run.makespan for run in runs)
        yield Figure(
            f"300 videos from a cold start, 10 in flight, the true time {name}",
            f"{statistics.fmean(run.score.polls for run in runs):.1f} polls a video, {polls:.2f} × the optimum; "
            f"makespan {makespan:.3f} ×",
            f"polls ≤ {COLD_BOUND} × the optimum; makespan ≤ {MAKESPAN_BOUND} × of a perfect scheduler",
            polls <= COLD_BOUND and makespan <= MAKESPAN_BOUND,
        )
    yield from in_flight.figures()
