"""When a batch will be done: its slots simulated."""

from __future__ import annotations

import math

import pytest

from batchgen.limits.forecast import forecast
from batchgen.limits.poll_schedule import TimeDistribution

CERTAIN = TimeDistribution(math.log(100), 1e-9, tail=0)


@pytest.mark.parametrize(
    ("jobs", "in_flight", "per_minute", "seconds"),
    [(1, 10, 60, 100), (10, 10, 60_000, 100), (11, 10, 60_000, 200), (4, 1, 60, 400), (4, 4, 60, 103)],
)
def test_the_last_generation_ends_when_slots_and_rate_let_it(
    jobs: int, in_flight: int, per_minute: float, seconds: float
) -> None:
    result = forecast([CERTAIN] * jobs, [], in_flight, per_minute)
    assert result.p50 == pytest.approx(seconds, abs=0.02)
    assert result.p90 == pytest.approx(seconds, abs=0.02)
    assert result.sent == jobs


def test_a_running_generation_keeps_its_slot_for_the_time_that_is_left() -> None:
    assert forecast([CERTAIN], [(CERTAIN, 40.0)], 1, 60_000).p50 == pytest.approx(160, abs=0.01)
    assert forecast([], [(CERTAIN, 40.0)], 1, 60_000).p50 == pytest.approx(60, abs=0.01)
    # Three are running where one is allowed: the next begins when the last of them ends.
    assert forecast([CERTAIN], [(CERTAIN, age) for age in (10.0, 20.0, 30.0)], 1, 60_000).p50 == pytest.approx(
        190, abs=0.01
    )


def test_nothing_to_do_is_done_now() -> None:
    result = forecast([], [], 10, 30)
    assert (result.p50, result.p90, result.sent) == (0.0, 0.0, 0)


def test_a_job_that_would_end_too_late_is_not_sent() -> None:
    assert forecast([CERTAIN] * 10, [], 2, 60_000, until=350.0).sent == 6
    assert forecast([CERTAIN] * 10, [], 2, 60_000, until=50.0).sent == 0
    long = TimeDistribution(math.log(500), 1e-9, tail=0)
    assert forecast([long, CERTAIN, long, CERTAIN], [], 2, 60_000, until=350.0).chosen == bytes([0, 1, 0, 1])


def test_the_same_question_has_the_same_answer_and_nine_of_ten_take_longer_than_half() -> None:
    spread = TimeDistribution(math.log(200), 0.4)
    result = forecast([spread] * 50, [], 10, 600)
    assert result == forecast([spread] * 50, [], 10, 600)
    assert 1000 < result.p50 < result.p90
