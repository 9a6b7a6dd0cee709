"""AIMD with slow start: what each answer does to a learned limit, and a simulated account that is learned by it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from batchgen.limits import adaptive
from batchgen.limits.adaptive import (
    DECREASE,
    LEAST,
    MARGIN,
    SHORTEST_INTERVAL,
    SLOW_START_LEAD,
    STEP_SHARE,
    LearnedLimit,
)
from batchgen.services.outcomes import Limit, Throttled
from tests.conftest import NOON

SECOND = timedelta(seconds=1)
HOURS = timedelta(hours=5)
SLOW_START = LearnedLimit()
FIFTY = LearnedLimit(50, 50, failed_probes=1)
PROBING = replace(FIFTY, window=51)
RATE = LearnedLimit(60.0, 60.0, failed_probes=1)


# --- slow start ------------------------------------------------------------------------------------------------------


def test_in_slow_start_every_accepted_request_lets_another_one_follow() -> None:
    limit, allowed = SLOW_START, []
    for accepted in range(6):
        allowed.append(adaptive.allowed_in_flight(limit, accepted))
        limit = adaptive.accepted_in_flight(limit, accepted + 1, 0)
    assert allowed == [accepted + SLOW_START_LEAD for accepted in range(6)]


def test_slow_start_is_faster_with_many_in_flight() -> None:
    assert adaptive.allowed_in_flight(SLOW_START, 640) == 640 + 640 * STEP_SHARE


def test_slow_start_keeps_its_window_when_generations_end() -> None:
    limit = adaptive.accepted_in_flight(SLOW_START, 20, 0)
    assert adaptive.allowed_in_flight(adaptive.accepted_in_flight(limit, 3, 0), 3) == 20 + SLOW_START_LEAD


def test_slow_start_goes_beyond_what_other_runs_have_in_flight() -> None:
    assert adaptive.allowed_in_flight(SLOW_START, 30) == 30 + SLOW_START_LEAD


def test_the_first_refusal_ends_slow_start_at_what_was_in_flight() -> None:
    limit = adaptive.decrease(LearnedLimit(22), 20, 1)
    assert limit == LearnedLimit(20, 20, failed_probes=1)
    assert adaptive.allowed_in_flight(limit, 20) == 20


def test_a_refusal_of_which_nothing_is_measured_leaves_slow_start_as_it_is() -> None:
    assert adaptive.decrease(SLOW_START, None, 1) == SLOW_START


def test_a_limit_never_falls_to_nothing() -> None:
    assert adaptive.decrease(SLOW_START, 1e-9, 1).window == LEAST
    assert adaptive.decrease(LearnedLimit(LEAST, LEAST), None, 9).window == LEAST
    assert adaptive.allowed_in_flight(LearnedLimit(LEAST, LEAST), 0) == 1


# --- additive increase -----------------------------------------------------------------------------------------------


def successes_until_a_probe(limit: LearnedLimit) -> int:
    number = 0
    while adaptive.increase(limit).window == limit.window:
        limit, number = adaptive.increase(limit), number + 1
    return number + 1


@pytest.mark.parametrize(
    ("limit", "successes"),
    [
        pytest.param(replace(FIFTY, failed_probes=0), 50, id="a window's worth"),
        pytest.param(FIFTY, 100, id="twice as many after a failed probe"),
        pytest.param(replace(FIFTY, failed_probes=2), 200, id="and again after the next"),
        pytest.param(replace(FIFTY, failed_probes=99), 1_600, id="but not without end"),
        pytest.param(LearnedLimit(2, 2), SHORTEST_INTERVAL, id="more than its worth for a small window"),
    ],
)
def test_a_probe_waits_for_a_whole_window_of_successes(limit: LearnedLimit, successes: int) -> None:
    assert successes_until_a_probe(limit) == successes


def test_probes_that_hold_double_their_step() -> None:
    limit, windows = replace(FIFTY, failed_probes=0), [50.0]
    for _ in range(600):
        limit = adaptive.increase(limit)
        if limit.window != windows[-1]:
            windows.append(limit.window or 0.0)
    steps = [after - before for before, after in pairwise(windows)][:4]
    assert steps == pytest.approx([windows[i] * STEP_SHARE * 2**i for i in range(4)], rel=0.01)


def test_only_a_full_window_counts_as_a_success() -> None:
    assert adaptive.accepted_in_flight(FIFTY, 49, 0) == FIFTY
    assert adaptive.accepted_in_flight(FIFTY, 50, 0).successes == 1
    assert adaptive.accepted_in_flight(FIFTY, 48, 2).successes == 1, "requests on the wire take their places"
    assert adaptive.increase(SLOW_START) == SLOW_START, "a rate that nobody has refused is no limit"


# --- multiplicative decrease -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "in_flight", "in_a_row", "window"),
    [
        pytest.param(PROBING, 50, 1, 50, id="a failed probe goes back to the threshold"),
        pytest.param(FIFTY, 49, 1, 48, id="below the threshold: a share less"),
        pytest.param(FIFTY, 49, 2, 46, id="twice the share when refused again"),
        pytest.param(PROBING, 49, 3, 43, id="a probe that is refused again was not to blame"),
        pytest.param(FIFTY, 49, 9, 25, id="at most half"),
        pytest.param(FIFTY, 10, 1, 25, id="at most half, however few are in flight"),
        pytest.param(LearnedLimit(1, 1), 0, 9, 1, id="never nothing"),
    ],
)
def test_a_refusal_decreases_the_window(limit: LearnedLimit, in_flight: int, in_a_row: int, window: int) -> None:
    lowered = adaptive.decrease(limit, in_flight, in_a_row)
    assert adaptive.allowed_in_flight(lowered, 0) == window
    assert (lowered.threshold, lowered.successes) == (lowered.window, 0)


def test_a_failed_probe_makes_the_next_one_rarer_and_a_decrease_does_not() -> None:
    limit = replace(PROBING, failed_probes=3)
    assert adaptive.decrease(limit, 50, 1).failed_probes == 4
    assert adaptive.decrease(replace(limit, window=50), 49, 1).failed_probes == 1


@pytest.mark.parametrize(
    ("limit", "measured", "rate"),
    [
        pytest.param(RATE, None, 60 * (1 - DECREASE), id="a share less where nothing is measured"),
        pytest.param(RATE, 61.0, 60 * (1 - DECREASE), id="or no less is measured"),
        pytest.param(RATE, 40.0, 40.0, id="what is measured"),
        pytest.param(RATE, 5.0, 30.0, id="at most half"),
        pytest.param(replace(RATE, window=62.0), 5.0, 60.0, id="a failed probe"),
    ],
)
def test_a_refusal_decreases_the_rate(limit: LearnedLimit, measured: float | None, rate: float) -> None:
    assert adaptive.decrease(limit, measured, 1).window == pytest.approx(rate)


def test_a_probe_that_fails_after_some_that_held_makes_the_next_ones_rare_again() -> None:
    assert adaptive.decrease(replace(PROBING, failed_probes=-3), 50, 1).failed_probes == 1


# --- which limit, and what rate --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "refusal", "in_flight", "in_a_row", "expected"),
    [
        pytest.param(FIFTY, {"limit": Limit.QUOTA}, 50, 1, Limit.QUOTA, id="the service's words"),
        pytest.param(FIFTY, {"limit": Limit.RATE}, 50, 1, Limit.RATE, id="its words come before the window"),
        pytest.param(SLOW_START, {"retry_after": HOURS}, 30, 1, Limit.RATE, id="a long wait is no word for a quota"),
        pytest.param(FIFTY, {}, 50, 1, Limit.IN_FLIGHT, id="the window is full"),
        pytest.param(FIFTY, {}, 49, 1, Limit.IN_FLIGHT, id="or as good as full"),
        pytest.param(FIFTY, {}, 30, 1, Limit.RATE, id="the window is not full"),
        pytest.param(SLOW_START, {}, 30, 1, Limit.RATE, id="in slow start, the rate at first"),
        pytest.param(SLOW_START, {"retry_after": SECOND}, 30, 2, Limit.IN_FLIGHT, id="refused after the wait it named"),
        pytest.param(SLOW_START, {}, 30, 5, Limit.RATE, id="refused within a minute"),
        pytest.param(SLOW_START, {}, 30, 6, Limit.IN_FLIGHT, id="refused for longer than a minute"),
        pytest.param(SLOW_START, {}, 0, 9, Limit.RATE, id="nothing in flight is not too much"),
    ],
)
def test_a_refusal_is_for_one_of_the_limits(
    limit: LearnedLimit, refusal: dict[str, Any], in_flight: int, in_a_row: int, expected: Limit
) -> None:
    assert adaptive.limit_of(limit, Throttled("429", **refusal), in_flight, in_a_row) is expected


@pytest.mark.parametrize(
    ("limit", "seconds", "until", "fewest", "rate"),
    [
        pytest.param(SLOW_START, [0, 1, 2], 60, 2, 3 * MARGIN, id="a burst, over the wait that is asked for"),
        pytest.param(SLOW_START, [0], 60, 2, None, id="one has no rate"),
        pytest.param(SLOW_START, [], 60, 2, None, id="none has no rate"),
        pytest.param(RATE, [0, 1, 2, 40, 41, 42, 43], 44, 2, None, id="those before an idle time do not count"),
        pytest.param(RATE, [0, *range(40, 52)], 52, 2, 60.0, id="without them, more are not too few"),
        pytest.param(
            SLOW_START, [0, 1, 2, 40, 41, 42, 43], 44, 2, 7 * 60 / 44 * MARGIN, id="a minute is not idle in slow start"
        ),
    ],
)
def test_a_rate_is_measured(
    limit: LearnedLimit, seconds: list[int], until: int, fewest: int, rate: float | None
) -> None:
    times = [NOON + second * SECOND for second in seconds]
    assert adaptive.measured_rate(limit, times, NOON + until * SECOND, fewest) == (rate and pytest.approx(rate))


# --- a simulated account ---------------------------------------------------------------------------------------------


class Account:
    """A service that allows so many generations at once. They last `lasting` steps; one submit is tried each step."""

    def __init__(self, in_flight: int, lasting: int) -> None:
        self.most, self.lasting = in_flight, lasting
        self.step = 0
        self.ends: list[int] = []
        self.answers: list[bool] = []
        self.refused_in_a_row = 0

    def submit(self, limit: LearnedLimit, steps: int) -> LearnedLimit:
        for _ in range(steps):
            self.step += 1
            self.ends = [end for end in self.ends if end > self.step]
            if len(self.ends) >= adaptive.allowed_in_flight(limit, len(self.ends)):
                continue
            accepted = len(self.ends) < self.most
            self.answers.append(accepted)
            if accepted:
                self.ends.append(self.step + self.lasting)
                self.refused_in_a_row = 0
                limit = adaptive.accepted_in_flight(limit, len(self.ends), 0)
            else:
                self.refused_in_a_row += 1
                limit = adaptive.decrease(limit, len(self.ends), self.refused_in_a_row)
        return limit


@pytest.mark.parametrize("in_flight", [1, 2, 5, 20, 50])
def test_an_account_is_used_in_full_and_seldom_refuses(in_flight: int) -> None:
    account = Account(in_flight, lasting=210)
    limit = account.submit(SLOW_START, 40_000)
    possible = min(40_000, 40_000 * in_flight / 210)
    assert account.answers.count(True) >= 0.98 * possible
    assert account.answers.count(False) <= max(0.02 * len(account.answers), 4)
    assert limit.threshold == in_flight


def test_an_account_that_shrinks_and_grows_is_followed() -> None:
    account = Account(50, lasting=210)
    limit = account.submit(SLOW_START, 3_000)
    account.most, before = 10, len(account.answers)
    limit = account.submit(limit, 5_000)
    assert account.answers[before:].count(False) <= 12
    assert adaptive.allowed_in_flight(limit, 0) in (9, 10, 11)
    account.most = 30
    limit = account.submit(limit, 30_000)
    assert 28 <= adaptive.allowed_in_flight(limit, 0) <= 31
