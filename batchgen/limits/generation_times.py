"""How long generations take, by model and clip length, and so when each is polled (the method: `poll_schedule.py`).

The distribution starts from the service's own figure or else the documented time. What the polls of this run saw is
kept here; the table keeps mean and variance of the times that ended (`jobtable/timings.py`).
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from batchgen.catalogue.durations import typical_seconds
from batchgen.jobs import Job, TimingKind
from batchgen.jobtable.timings import Timing
from batchgen.limits.poll_schedule import Z_90, Z_99, PollSchedule, TimeDistribution

POLL_COST = 0.0024
"""What a poll is worth, as a share of the median: 0.5 s of delay for a generation of 210 s, so about 8 polls."""
SCOUT_COST = 8 * POLL_COST  # of a scout's poll: several scouts search the same times
SCOUTS = 12  # running generations that search: together they poll at ages 3 % apart
SCOUT_FIRST_SECONDS = 0.25  # age of a scout at its first poll: a service that answers at once is noticed at once
SCOUT_GROWTH = 1.4  # of a scout's age from poll to poll, at most
EARLY_GROWTH, EARLY_SHARE = 2.0, 0.01  # the growth at ages below this share of the first guess
OTHERS_GROWTH = 4.0  # of the age of the others from poll to poll, at least: the scouts may all be stuck
OTHERS_FIRST = 2.0  # times the first guess: age of the others at their first poll
FAR_SHARE = 0.3  # of models whose times are far from the first guess
PLAUSIBLE_FACTOR = 10.0  # between the service's figure and the documented time; beyond it, the figure is not believed
FEW = 20  # ended generations: until then, polls are brought forward when more is learned
WORTH_RECOMPUTING = 1.25  # times as many ended generations as the poll schedule in use was made from
STUCK_SHARE = 0.01  # of the generations: so many of the oldest unfinished ones may be stuck, and are not evidence
SLACK = 0.001  # of the median: polls wait for multiples of it, so that one claim takes several (timer slack)
EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
SHORTEST_SECONDS = 0.05  # between two polls of a generation
LATE_SECONDS = 300.0  # between two polls of a generation that is past its deadline
LONGEST_SECONDS = 1_800.0  # between two polls, whatever was learned: a clock that was set may have taught nonsense
PRIOR_SIGMA = 0.3  # of the times of one model and clip length: services document ranges such as 3 to 4 minutes
SIGMA_WEIGHT = 2.0  # generations that the prior of sigma counts for
MEDIAN_WEIGHT = 0.05  # the same for the first guess of the median, which may be wrong by a factor of ten
NEWTON_STEPS = 30  # of Newton's method, at most; about six suffice
LOWEST_Z = -35.0  # below it, the normal distribution function underflows


@dataclass(slots=True)
class Evidence:
    """What was seen of the generations of one model and clip length, and what follows from it."""

    timing: Timing = field(default_factory=Timing)
    unfinished: dict[int, float] = field(default_factory=dict)
    """The age in seconds at which the last poll saw a generation at work, by job id."""
    scouts: dict[int, float] = field(default_factory=dict)
    """The age in seconds at which each scout is first polled, by job id."""
    fitted: tuple[int, TimeDistribution, PollSchedule] | None = None
    """The distribution and the schedule that follow, with the number of ended generations that they are made from."""

    @property
    def fitted_count(self) -> int:
        return self.fitted[0] if self.fitted else -1

    @property
    def is_outdated(self) -> bool:
        count = self.fitted_count
        return self.timing.count > count and self.timing.count >= count * WORTH_RECOMPUTING

    def log_ages(self) -> Counter[float]:
        """How many generations are unfinished, by the logarithm of their age, without those that may be stuck."""
        ages = sorted(self.unfinished.values())
        stuck = math.ceil(STUCK_SHARE * (self.timing.count + len(ages)))
        return Counter(round(math.log(age), 2) for age in ages[: max(len(ages) - stuck, 0)])


class GenerationTimes:
    """The distribution of generation times by model and clip length, and the polls that follow from it.

    `measured` holds medians in seconds by model, from the service; `timings` what the table has learned; `speed` how
    many times faster than documented the service is.
    """

    def __init__(self, measured: Mapping[str, float], timings: Mapping[TimingKind, Timing], speed: float = 1.0) -> None:
        self._measured, self._speed = measured, speed
        self._evidence = defaultdict(Evidence, {kind: Evidence(timing) for kind, timing in timings.items()})

    def first_guess(self, model: str, clip_seconds: float) -> float:
        """The median to start from, in seconds: the service's figure, unless the documented time contradicts it."""
        documented, usual = typical_seconds(model, clip_seconds) / self._speed, typical_seconds(model) / self._speed
        figure = self._measured.get(model, usual)
        is_plausible = usual / PLAUSIBLE_FACTOR <= figure <= usual * PLAUSIBLE_FACTOR
        return documented * figure / usual if is_plausible else documented

    def times(self, model: str, clip_seconds: float) -> TimeDistribution:
        """The distribution as far as it is known: around the first guess until a generation has ended, then the fit."""
        return self._fitted(model, clip_seconds)[1]

    def _fitted(self, model: str, clip_seconds: float) -> tuple[int, TimeDistribution, PollSchedule]:
        """`Evidence.fitted`, brought up to date: the optimal schedule for what is known, or for scouts."""
        evidence = self._evidence[model, clip_seconds]
        fitted, timing = evidence.fitted, evidence.timing
        if not fitted or evidence.is_outdated:
            guess = math.log(self.first_guess(model, clip_seconds))
            times, tail, cost = TimeDistribution(guess, PRIOR_SIGMA), FAR_SHARE, SCOUT_COST
            if timing.count:
                times = TimeDistribution(*fit(timing, evidence.log_ages(), guess))
                tail, cost = times.tail, POLL_COST
            schedule = PollSchedule(replace(times, tail=tail), cost * times.median)
            evidence.fitted = fitted = timing.count, times, schedule
        return fitted

    def p90(self, model: str, clip_seconds: float) -> timedelta:
        """The time within which nine of ten such generations end."""
        return timedelta(seconds=self.times(model, clip_seconds).quantile(Z_90))

    def p99(self, model: str, clip_seconds: float) -> timedelta:
        """The time within which 99 of 100 such generations end."""
        return timedelta(seconds=self.times(model, clip_seconds).quantile(Z_99))

    def take_over(self, measured: Mapping[str, float]) -> None:
        """Begin from the service's own medians, which came after the first polls were planned."""
        self._measured = measured
        for evidence in self._evidence.values():
            evidence.fitted = None

    def learn(self, job: Job, timing: Timing) -> bool:
        """Take over what the table has learned from a job that ended. Returns whether polls may come forward."""
        self.forget(job)
        return self.take_in(job.kind, timing)

    def knows_few(self, kind: TimingKind) -> bool:
        """Whether few generations of a kind have ended, as far as this run knows."""
        return self._evidence[kind].timing.count < FEW

    def take_in(self, kind: TimingKind, timing: Timing) -> bool:
        """Take over what the table has learned, also from other runs. Returns whether polls may come forward."""
        evidence = self._evidence[kind]
        if timing.count >= evidence.timing.count:
            evidence.timing = timing
        # Other runs may have taught the table more than FEW since this run last fitted.
        return evidence.fitted_count < FEW and evidence.is_outdated

    def forget(self, job: Job) -> None:
        """A generation is no evidence any more. If it was a scout, another may become one."""
        evidence = self._evidence[job.kind]
        evidence.unfinished.pop(job.id, None)
        evidence.scouts.pop(job.id, None)

    def next_poll_at(self, job: Job, submitted_at: datetime, deadline_at: datetime, now: datetime) -> datetime:
        """When to poll next for a generation that was not finished at `now`."""
        if now >= deadline_at:
            self.forget(job)
            return now + timedelta(seconds=LATE_SECONDS)
        age = max((now - submitted_at).total_seconds(), 0.0)
        if age:
            self._evidence[job.kind].unfinished[job.id] = age
        at = submitted_at + timedelta(seconds=self.next_age(job, age))
        slack = timedelta(seconds=SLACK * self.times(*job.kind).median)
        at += (EPOCH - at) % max(slack, timedelta.resolution)
        earliest, latest = (now + timedelta(seconds=seconds) for seconds in (SHORTEST_SECONDS, LONGEST_SECONDS))
        return min(max(at, earliest), latest)

    def next_age(self, job: Job, age: float) -> float:
        """The age in seconds at which to poll for a generation that was not finished at `age`."""
        kind = job.kind
        evidence = self._evidence[kind]
        _, _, schedule = self._fitted(*kind)
        if evidence.timing.count:
            return schedule.after(age)
        if len(evidence.scouts) < SCOUTS:
            apart = SCOUT_GROWTH ** (len(evidence.scouts) / SCOUTS)
            evidence.scouts.setdefault(job.id, SCOUT_FIRST_SECONDS * apart)
        if job.id not in evidence.scouts:
            return max(age * OTHERS_GROWTH, OTHERS_FIRST * self.first_guess(*kind))
        search = evidence.scouts[job.id]
        while search <= age * 1.001:
            is_early = search < EARLY_SHARE * self.first_guess(*kind)
            search *= EARLY_GROWTH if is_early else SCOUT_GROWTH
        return min(search, schedule.after(age)) if age < schedule.ages[-1] else search


def fit(timing: Timing, unfinished: Mapping[float, int], guess: float) -> tuple[float, float]:
    """Mean and standard deviation of the logarithm of the next generation's time in seconds.

    `unfinished` counts running generations by the logarithm of their age, and `guess` is that of the first guess. The
    prior is Normal-inverse-gamma; the deviation is that of the next time, so it is wide while few have ended.

    The first generations to end are the fastest, so a mean of them alone is too low. That one is not finished at some
    age enters the likelihood as the probability of a longer time (a Tobit model). In theta = 1/sigma and gamma =
    mu/sigma the likelihood is concave (Olsen, Econometrica 46, 1978): Newton's method finds its one maximum.
    """
    number, weight = SIGMA_WEIGHT + timing.count, MEDIAN_WEIGHT + timing.count
    total = timing.count * (timing.log_mean - guess)
    squares = SIGMA_WEIGHT * PRIOR_SIGMA**2 + timing.log_m2 + total * (timing.log_mean - guess)
    likelihood = Likelihood(number, weight, total, squares, unfinished, guess)
    theta = math.sqrt(number / (squares - total**2 / weight))
    gamma = theta * total / weight
    for _ in range(NEWTON_STEPS):
        step_gamma, step_theta, curve_gamma = likelihood.newton_step(gamma, theta)
        damping = max(1.0, 2 * abs(step_theta) / theta)  # theta stays positive
        gamma, theta = gamma + step_gamma / damping, theta + step_theta / damping
        if max(abs(step_gamma), abs(step_theta)) < 1e-6 * theta:
            break
    return guess + gamma / theta, math.sqrt(1 + 1 / curve_gamma) / theta


@dataclass(frozen=True, slots=True)
class Likelihood:
    """The logarithm of the likelihood of gamma and theta, with the prior: see `fit`."""

    number: float
    """Of generations that have ended, with those that the prior of sigma counts for."""
    weight: float
    """The same, with those that the prior of the median counts for."""
    total: float
    """The sum of the logarithms of their times, from `guess` as their zero."""
    squares: float
    """The sum of the squares."""
    unfinished: Mapping[float, int]
    guess: float

    def newton_step(self, gamma: float, theta: float) -> tuple[float, float, float]:
        """How far the maximum seems to be in gamma and in theta, and the curvature in gamma."""
        slope_gamma = theta * self.total - self.weight * gamma
        slope_theta = self.number / theta - theta * self.squares + gamma * self.total
        curve_gamma, curve_theta, curve_both = self.weight, self.number / theta**2 + self.squares, -self.total
        for log_age, count in self.unfinished.items():
            age = log_age - self.guess
            z = max(gamma - theta * age, LOWEST_Z)
            mills = math.exp(-z * z / 2) / math.sqrt(2 * math.pi) / (0.5 * math.erfc(-z / math.sqrt(2)))
            slope_gamma, slope_theta = slope_gamma + count * mills, slope_theta - count * age * mills
            information = count * mills * (mills + z)  # that of so many ended generations
            curve_gamma, curve_theta = curve_gamma + information, curve_theta + age * age * information
            curve_both -= age * information
        determinant = curve_gamma * curve_theta - curve_both**2
        step_gamma = (curve_theta * slope_gamma - curve_both * slope_theta) / determinant
        step_theta = (curve_gamma * slope_theta - curve_both * slope_gamma) / determinant
        return step_gamma, step_theta, curve_gamma
