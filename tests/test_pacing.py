"""The poll schedule: close to the optimum, soon after a cold start too, and never ever faster for a straggler."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from datetime import timedelta
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from batchgen.catalogue.durations import typical_seconds
from batchgen.jobtable.timings import GENERATIONS_MAX, Timing
from batchgen.limits.generation_times import (
    EARLY_GROWTH,
    EARLY_SHARE,
    LATE_SECONDS,
    SCOUT_GROWTH,
    SCOUTS,
    STUCK_SHARE,
    GenerationTimes,
    fit,
)
from batchgen.limits.poll_schedule import TAIL_STEP, PollSchedule, TimeDistribution
from batchgen.limits.rate import backoff
from tests.benchmarks.polling import (
    COLD_BOUND,
    DURATION,
    FIXED_SECONDS,
    KNOWN_BOUND,
    MAKESPAN_BOUND,
    MEDIAN_SECONDS,
    MODEL,
    cold,
    draw,
    fewest_polls,
    schedule,
    score,
)
from tests.conftest import NOON

TIMES = draw(400)
DRAWS = range(1, 9)


def test_with_the_distribution_known_polls_are_within_a_tenth_of_the_optimum() -> None:
    result = score(schedule().after, TIMES)
    assert result.polls <= KNOWN_BOUND * fewest_polls(result.notice, TIMES)


@pytest.mark.slow
@pytest.mark.parametrize("slots", [10, 30])
@pytest.mark.parametrize("factor", [0.1, 1.0, 10.0])
def test_from_a_cold_start_polls_are_within_a_quarter_of_the_optimum_however_wrong_the_guess(
    factor: float, slots: int
) -> None:
    runs = [cold(factor, slots, seed=seed) for seed in DRAWS]
    assert statistics.fmean(run.polls for run in runs) <= COLD_BOUND
    assert max(run.makespan for run in runs) <= MAKESPAN_BOUND


@pytest.mark.parametrize("slots", [50, 300])
@pytest.mark.parametrize("factor", [0.1, 1.0, 10.0])
def test_with_more_slots_too_a_cold_start_takes_a_tenth_longer_than_a_perfect_scheduler_at_most(
    factor: float, slots: int
) -> None:
    assert cold(factor, slots).makespan <= MAKESPAN_BOUND


@pytest.mark.parametrize("factor", [0.0001, 0.1, 10.0])
def test_a_guess_that_is_far_off_is_noticed_soon_after_the_first_generation_has_ended(factor: float) -> None:
    result = cold(factor, 100, number=100).score
    slowest = max(draw(100, factor=factor))
    assert result.makespan <= max(1.25 * slowest, 1.0)


def test_a_thousand_videos_that_begin_together_take_no_more_polls_than_others() -> None:
    assert cold(1.0, 1000, number=1000).score.polls <= 9


def test_a_fixed_interval_polls_twice_as_often_for_later_notice() -> None:
    fixed, result = score(lambda age: age + FIXED_SECONDS, TIMES), score(schedule().after, TIMES)
    assert result.polls < fixed.polls / 2
    assert result.notice < fixed.notice


@pytest.mark.parametrize("sigma", [0.01, 0.18, 1.0, 3.0])
def test_the_next_poll_is_always_later_and_those_of_a_straggler_keep_their_proportion(sigma: float) -> None:
    for cost in (1e-6, 0.5, 1e6):
        poll_schedule = PollSchedule(TimeDistribution(math.log(210), sigma), cost)
        age = 0.0
        for _ in range(2_000):
            following = poll_schedule.after(age)
            assert following > age, cost
            age = following
            if age > poll_schedule.ages[-1]:
                break
        late = 10 * poll_schedule.ages[-1]
        assert poll_schedule.after(late) == late * (1 + TAIL_STEP), cost


@pytest.mark.parametrize("sigma", [0.01, 0.18, 0.5, 1.2])
def test_the_shortened_search_finds_what_an_exhaustive_one_does(sigma: float) -> None:
    prices = (0.1, 0.5, 40.0)
    times = TimeDistribution(math.log(210), sigma)
    schedules = {cost: PollSchedule(times, cost) for cost in prices}
    ages = schedules[prices[0]].ages
    ended, area = [times.cdf(age) for age in ages], [times.integral(age) for age in ages]
    costs = {cost: [0.0] for cost in prices}  # from each age on, the last one first
    for here in range(len(ages) - 2, -1, -1):
        step = [area[s] - area[here] - (ages[s] - ages[here]) * ended[here] for s in range(here + 1, len(ages))]
        for cost, rests in costs.items():
            ahead = [waited + rest for waited, rest in zip(step, reversed(rests), strict=True)]
            best, chosen = min(ahead), ahead[schedules[cost].following[here] - here - 1]
            rests.append(cost * (1 - ended[here]) + best)
            assert chosen == pytest.approx(best, rel=1e-9), cost


def job(number: int = 1, duration: float = 0.0) -> Any:
    return SimpleNamespace(id=number, kind=(MODEL, duration))


def timing_of(*seconds: float) -> Timing:
    timing = Timing()
    for one in seconds:
        timing = timing.with_one(one)
    return timing


def test_a_late_generation_is_polled_every_few_minutes() -> None:
    next_poll_at = GenerationTimes({}, {}).next_poll_at(job(), NOON - timedelta(hours=2), NOON, NOON)
    assert next_poll_at == NOON + timedelta(seconds=LATE_SECONDS)


# --- before anything has ended -------------------------------------------------------------------------------------


def test_a_few_scouts_are_polled_early_each_at_its_own_ages_and_all_others_wait() -> None:
    times = GenerationTimes({}, {})
    first = [times.next_age(job(number), 0.0) for number in range(SCOUTS + 50)]
    assert len(set(first[:SCOUTS])) == SCOUTS
    assert max(first[:SCOUTS]) < 0.01 * MEDIAN_SECONDS
    assert min(first[SCOUTS:]) > MEDIAN_SECONDS


def test_a_scout_misses_no_end_by_more_than_its_growth_and_polls_more_often_around_the_guess() -> None:
    times, age, ages = GenerationTimes({}, {}), 0.0, [0.0]
    while age < 20 * MEDIAN_SECONDS:
        ages.append(age := times.next_age(job(), age))
    steps = [(before, after / before) for before, after in pairwise(ages[1:])]
    assert max(step for _, step in steps) <= EARLY_GROWTH * 1.01
    assert max(step for before, step in steps if before > EARLY_SHARE * EARLY_GROWTH * MEDIAN_SECONDS) <= SCOUT_GROWTH
    assert max(step for before, step in steps if 0.8 < before / MEDIAN_SECONDS < 1.2) < 1.15


def test_a_job_takes_the_place_of_a_scout_that_failed() -> None:
    times = GenerationTimes({}, {})
    for number in range(SCOUTS + 1):
        times.next_age(job(number), 0.0)
    assert times.next_age(job(SCOUTS), 100.0) > 2 * MEDIAN_SECONDS * 0.99
    times.forget(job(3))
    assert times.next_age(job(SCOUTS), 100.0) < 100.0 * SCOUT_GROWTH * 1.01


# --- the first guess -----------------------------------------------------------------------------------------------


def test_the_first_guess_is_the_service_s_own_figure_scaled_to_the_clip_s_length() -> None:
    documented = typical_seconds(MODEL, 10) / typical_seconds(MODEL)
    assert GenerationTimes({}, {}).first_guess(MODEL, 10.0) == typical_seconds(MODEL, 10)
    assert GenerationTimes({MODEL: 60.0}, {}).first_guess(MODEL, 10.0) == pytest.approx(60.0 * documented)
    assert GenerationTimes({}, {}).first_guess("a-model-of-tomorrow", 0.0) > 0
    fast = typical_seconds(MODEL, 10) / 120
    assert GenerationTimes({}, {}, 120.0).first_guess(MODEL, 10.0) == fast
    assert GenerationTimes({MODEL: 1.5}, {}, 120.0).first_guess(MODEL, 10.0) == pytest.approx(1.5 * documented)


@pytest.mark.parametrize("figure", [math.inf, -math.inf, math.nan, 0.0, -5.0, 1.2, 1e-300, 1e300, 86_400.0])
def test_a_figure_of_the_service_that_contradicts_the_documented_time_is_not_believed(figure: float) -> None:
    assert GenerationTimes({MODEL: figure}, {}).first_guess(MODEL, DURATION) == MEDIAN_SECONDS


# --- what was learned ----------------------------------------------------------------------------------------------


def test_what_was_learned_outweighs_the_guess() -> None:
    timing = timing_of(*(100.0, 110.0, 90.0, 105.0, 95.0) * 8)
    assert GenerationTimes({MODEL: 400.0}, {(MODEL, DURATION): timing}).times(MODEL, DURATION).median == pytest.approx(
        100, rel=0.1
    )


@pytest.mark.parametrize("guess", [21.0, 210.0, 2100.0])
@pytest.mark.parametrize("ended", [10, 100, 500])
def test_the_first_of_many_to_end_are_not_taken_for_typical(ended: int, guess: float) -> None:
    times = sorted(draw(1000))
    unfinished = Counter({math.log(times[ended - 1]): 1000 - ended})
    mu, sigma = fit(timing_of(*times[:ended]), unfinished, math.log(guess))
    assert math.exp(mu) == pytest.approx(MEDIAN_SECONDS, rel=0.25)
    assert 0.15 < sigma < 0.35


@pytest.mark.parametrize(
    ("seconds", "log_ages"),
    [
        pytest.param([210.0], {}, id="one has ended"),
        pytest.param([210.0] * 500, {}, id="all take the same time"),
        pytest.param([0.001, 1e6], {}, id="nothing is typical"),
        pytest.param([1.0], {math.log(86_400): 1000}, id="nearly all are stuck"),
        pytest.param([210.0] * 500, {math.log(86_400): 1}, id="one is stuck"),
        pytest.param([86_400.0], {math.log(0.001): 1000}, id="nearly all have just begun"),
    ],
)
def test_a_fit_is_finite_whatever_was_seen(seconds: list[float], log_ages: dict[float, int]) -> None:
    for guess in (1e-3, 210.0, 1e6):
        mu, sigma = fit(timing_of(*seconds), log_ages, math.log(guess))
        assert math.isfinite(mu), guess
        assert 0 < sigma < 50, guess


def test_a_stuck_generation_is_no_evidence() -> None:
    times = GenerationTimes({}, {(MODEL, DURATION): timing_of(*draw(50))})
    before = times.times(MODEL, DURATION)
    stuck = job(1, duration=DURATION)
    times.next_poll_at(stuck, NOON - timedelta(hours=9), NOON + timedelta(hours=1), NOON)
    times.learn(job(2, duration=DURATION), timing_of(*draw(70)))
    after = times.times(MODEL, DURATION)
    assert STUCK_SHARE * 70 < 1
    assert (after.median, after.sigma) == pytest.approx((before.median, before.sigma), rel=0.15)


def test_polls_come_forward_also_when_another_run_has_learned_most() -> None:
    times = GenerationTimes({}, {})
    times.next_poll_at(job(1, duration=DURATION), NOON, NOON + timedelta(hours=1), NOON)
    assert times.learn(job(2, duration=DURATION), timing_of(*draw(30))), "this run knew nothing until now"
    assert times.times(MODEL, DURATION).median == pytest.approx(MEDIAN_SECONDS, rel=0.2)
    assert not times.learn(job(3, duration=DURATION), timing_of(*draw(60)))


def test_a_service_that_changes_is_learned_anew() -> None:
    timing = timing_of(*[100.0] * GENERATIONS_MAX, *[200.0] * (4 * GENERATIONS_MAX))
    assert timing.count == GENERATIONS_MAX
    assert math.exp(timing.log_mean) == pytest.approx(200, rel=0.05)


@pytest.mark.parametrize(("failures", "seconds"), [(1, 2), (2, 4), (5, 32), (6, 60), (10_000, 60)])
def test_a_pause_doubles_up_to_its_longest(failures: int, seconds: float) -> None:
    assert backoff(failures, 2, 60) == timedelta(seconds=seconds)
