"""When a batch will be done: the slots played through."""

from __future__ import annotations

import math

import pytest

from batchgen.limits.forecast import Waiting, forecast
from batchgen.limits.poll_schedule import Times

SURE = Times(math.log(100), 1e-9, tail=0)
WAITING = Waiting(SURE, 100)


@pytest.mark.parametrize(
    ("jobs", "in_flight", "per_minute", "seconds"),
    [(1, 10, 60, 100), (10, 10, 60_000, 100), (11, 10, 60_000, 200), (4, 1, 60, 400), (4, 4, 60, 103)],
)
def test_the_last_generation_ends_when_slots_and_rate_let_it(
    jobs: int, in_flight: int, per_minute: float, seconds: float
) -> None:
    told = forecast([WAITING] * jobs, [], in_flight, per_minute)
    assert told.p50 == pytest.approx(seconds, abs=0.02)
    assert told.p90 == pytest.approx(seconds, abs=0.02)
    assert told.sent == jobs


def test_what_is_under_way_holds_its_slot_for_what_is_left_of_it() -> None:
    assert forecast([WAITING], [(SURE, 40.0)], 1, 60_000).p50 == pytest.approx(160, abs=0.01)
    assert forecast([], [(SURE, 40.0)], 1, 60_000).p50 == pytest.approx(60, abs=0.01)
    # Three are under way where one may be: the next begins when the last of them ends.
    assert forecast([WAITING], [(SURE, age) for age in (10.0, 20.0, 30.0)], 1, 60_000).p50 == pytest.approx(
        190, abs=0.01
    )


def test_nothing_to_do_is_done_now() -> None:
    told = forecast([], [], 10, 30)
    assert (told.p50, told.p90, told.sent) == (0.0, 0.0, 0)


def test_what_would_end_too_late_is_not_sent() -> None:
    assert forecast([WAITING] * 10, [], 2, 60_000, until=350.0).sent == 6
    assert forecast([WAITING] * 10, [], 2, 60_000, until=50.0).sent == 0


def test_the_same_question_has_the_same_answer_and_nine_of_ten_take_longer_than_half() -> None:
    spread = Waiting(Times(math.log(200), 0.4), 400)
    told = forecast([spread] * 50, [], 10, 600)
    assert told == forecast([spread] * 50, [], 10, 600)
    assert 1000 < told.p50 < told.p90
