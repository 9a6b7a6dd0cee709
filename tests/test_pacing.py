"""The poll schedule: close to the optimum, soon after a cold start too, and never ever faster for a straggler."""

from __future__ import annotations

import json
import math
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from batchgen.catalogue import typical_seconds
from batchgen.jobtable.timings import MEMORY, Timing
from batchgen.limits.generation_times import LATE_SECONDS, GenerationTimes, backoff
from batchgen.limits.poll_schedule import TAIL_STEP, PollSchedule, TimeDistribution
from tests.benchmarks.polling import (
    DURATION,
    FIXED_SECONDS,
    MEDIAN_SECONDS,
    MODEL,
    best,
    draw,
    learned,
    schedule,
    score,
)
from tests.conftest import NOON

TIMES = draw(400)


def test_with_the_distribution_known_polls_are_within_a_tenth_of_the_optimum() -> None:
    got = score(schedule().after, TIMES)
    assert got.polls <= 1.10 * best(got.notice, TIMES).polls


@pytest.mark.parametrize("guess", [MEDIAN_SECONDS, 150.0, 300.0])
def test_learned_from_a_cold_start_polls_are_within_a_quarter_of_the_optimum(guess: float) -> None:
    times = TIMES[:300]
    got = learned(times, guess)
    assert got.polls <= 1.25 * best(got.notice, times).polls


def test_a_fixed_interval_polls_twice_as_often_for_later_notice() -> None:
    fixed, got = score(lambda age: age + FIXED_SECONDS, TIMES), score(schedule().after, TIMES)
    assert got.polls < fixed.polls / 2
    assert got.notice < fixed.notice


@pytest.mark.parametrize("sigma", [0.01, 0.18, 1.0, 3.0])
@pytest.mark.parametrize("cost", [1e-6, 0.5, 1e6])
def test_the_next_poll_is_always_later_and_those_of_a_straggler_keep_their_proportion(
    sigma: float, cost: float
) -> None:
    poll_schedule = PollSchedule(TimeDistribution(math.log(210), sigma), cost)
    age = 0.0
    for _ in range(2_000):
        following = poll_schedule.after(age)
        assert following > age
        age = following
        if age > poll_schedule.ages[-1]:
            break
    late = 10 * poll_schedule.ages[-1]
    assert poll_schedule.after(late) == late * (1 + TAIL_STEP)


@pytest.mark.parametrize("sigma", [0.01, 0.18, 0.5, 1.2])
@pytest.mark.parametrize("cost", [0.1, 0.5, 40.0])
def test_the_shortened_search_finds_what_an_exhaustive_one_does(sigma: float, cost: float) -> None:
    times = TimeDistribution(math.log(210), sigma)
    poll_schedule = PollSchedule(times, cost)
    ages = poll_schedule.ages
    done, area = [times.cdf(age) for age in ages], [times.integral(age) for age in ages]
    costs = [poll_schedule.cost_beyond(times, cost)]
    for here in range(len(ages) - 2, -1, -1):
        step = [area[s] - area[here] - (ages[s] - ages[here]) * done[here] for s in range(here + 1, len(ages))]
        ahead = [waited + rest for waited, rest in zip(step, reversed(costs), strict=True)]
        costs.append(cost * (1 - done[here]) + min(ahead))
        chosen = ahead[poll_schedule.following[here] - here - 1]
        assert chosen == pytest.approx(min(ahead), rel=1e-9)


def job(**request: Any) -> Any:
    return SimpleNamespace(model=MODEL, request=json.dumps({"model": MODEL, **request}))


def test_a_late_generation_is_polled_every_few_minutes() -> None:
    next_poll_at = GenerationTimes({}, {}).next_poll_at(job(), NOON - timedelta(hours=2), NOON, NOON)
    assert next_poll_at == NOON + timedelta(seconds=LATE_SECONDS)


def test_the_first_guess_is_the_service_s_own_figure_scaled_to_the_clip_s_length() -> None:
    documented = typical_seconds(MODEL, 10) / typical_seconds(MODEL, None)
    assert GenerationTimes({}, {}).first_guess(MODEL, "10") == typical_seconds(MODEL, 10)
    assert GenerationTimes({MODEL: 60.0}, {}).first_guess(MODEL, "10") == pytest.approx(60.0 * documented)
    assert GenerationTimes({}, {}).first_guess("a-model-of-tomorrow", "") > 0


def test_what_was_learned_outweighs_the_guess() -> None:
    timing = Timing()
    for seconds in (100.0, 110.0, 90.0, 105.0, 95.0) * 8:
        timing = timing.with_one(seconds)
    assert GenerationTimes({MODEL: 400.0}, {(MODEL, DURATION): timing}).times(MODEL, DURATION).median == pytest.approx(
        100, rel=0.1
    )


def test_a_service_that_changes_is_learned_anew() -> None:
    timing = Timing()
    for seconds in [100.0] * MEMORY + [200.0] * (4 * MEMORY):
        timing = timing.with_one(seconds)
    assert timing.count == MEMORY
    assert math.exp(timing.log_mean) == pytest.approx(200, rel=0.05)


@pytest.mark.parametrize(("failures", "seconds"), [(1, 2), (2, 4), (5, 32), (6, 60), (10_000, 60)])
def test_a_pause_doubles_up_to_its_longest(failures: int, seconds: float) -> None:
    assert backoff(failures, 2, 60) == timedelta(seconds=seconds)
