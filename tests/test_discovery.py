"""The arithmetic of limits that are found: what each answer teaches, and an account played through it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from batchgen.limits import adaptive
from batchgen.limits.adaptive import CUT, MARGIN, QUOTA, SHORT_CUT, TRIAL, WAITS, Found, Sent, places
from batchgen.services.base import Limit, Throttled
from tests.conftest import NOON

SECOND = timedelta(seconds=1)
CEILING = Found(proven=20, ceiling=20, tries=1, refused_at=NOON)
PACED = Found(proven=20, per_minute=60.0)


@pytest.mark.parametrize(
    ("found", "number"),
    [
        pytest.param(Found(), 7, id="nothing known: two more than there are"),
        pytest.param(Found(proven=10), 12, id="two more than ever before"),
        pytest.param(Found(proven=64), 68, id="of many, a sixteenth more"),
        pytest.param(Found(proven=2, refusals=3), 4, id="fewer than there are, after refusals in a row"),
        pytest.param(replace(CEILING, wait=9), 20, id="a ceiling holds while it is waited for"),
        pytest.param(replace(CEILING, try_at=NOON + SECOND), 20, id="and until its time"),
        pytest.param(replace(CEILING, try_at=NOON), 21, id="then one tries it"),
    ],
)
def test_so_many_may_be_in_flight(found: Found, number: int) -> None:
    assert places(found, 5, NOON) == number


@pytest.mark.parametrize(
    ("found", "said", "flying", "held_back", "limit"),
    [
        pytest.param(Found(proven=9), {"limit": Limit.QUOTA}, 9, False, Limit.QUOTA, id="words count"),
        pytest.param(Found(proven=9), {"limit": Limit.RATE}, 9, False, Limit.RATE, id="words count before facts"),
        pytest.param(Found(proven=9), {"retry_after": QUOTA}, 9, False, Limit.QUOTA, id="a long wait is a quota"),
        pytest.param(Found(proven=9), {}, 9, False, Limit.IN_FLIGHT, id="as many as ever: a place"),
        pytest.param(Found(proven=50), {}, 20, False, Limit.RATE, id="far fewer than ever: the rate"),
        pytest.param(CEILING, {}, 20, False, Limit.IN_FLIGHT, id="the ceiling"),
        pytest.param(CEILING, {}, 10, False, Limit.RATE, id="far below the ceiling"),
        pytest.param(Found(), {}, 0, False, Limit.RATE, id="nothing in flight is not too much"),
        pytest.param(PACED, {}, 20, True, Limit.RATE, id="the rate held it back"),
        pytest.param(replace(PACED, refusals=1), {}, 20, True, Limit.IN_FLIGHT, id="twice in a row: a place"),
    ],
)
def test_a_refusal_is_for_one_of_the_limits(
    found: Found, said: dict[str, Any], flying: int, held_back: bool, limit: Limit
) -> None:
    assert adaptive.limit_of(found, Throttled("429", **said), flying, held_back) is limit


@pytest.mark.parametrize(
    ("found", "flying", "expected"),
    [
        pytest.param(Found(proven=8), 8, {"ceiling": 8, "proven": 8, "tries": 1}, id="what was in flight"),
        pytest.param(Found(proven=20), 19, {"ceiling": 20}, id="one that just ended is not missed"),
        pytest.param(Found(proven=50), 20, {"ceiling": 20}, id="by its words: fewer than ever before"),
        pytest.param(CEILING, 20, {"ceiling": 20, "tries": 2, "refusals": 0}, id="tried in vain"),
        pytest.param(replace(CEILING, ceiling=22), 22, {"ceiling": 21}, id="half of what was tried may be noise"),
        pytest.param(CEILING, 19, {"ceiling": 19, "refusals": 1}, id="below it: one less"),
        pytest.param(replace(CEILING, ceiling=64), 30, {"ceiling": 60}, id="never by more than a sixteenth"),
        pytest.param(
            replace(CEILING, refusals=2), 18, {"ceiling": None, "proven": 9, "tries": 0}, id="three in a row: half"
        ),
    ],
)
def test_a_refused_place_sets_the_ceiling(found: Found, flying: int, expected: dict[str, Any]) -> None:
    after = adaptive.refused_place(found, flying, NOON, None)
    assert {name: getattr(after, name) for name in expected} == expected
    assert after.refused_at == NOON


def test_a_ceiling_is_tried_ever_more_seldom() -> None:
    found, waits, pauses = Found(proven=20), [], []
    for _ in range(6):
        found = adaptive.refused_place(found, 20, NOON, None)
        assert found.try_at
        waits.append(found.wait)
        pauses.append((found.try_at - NOON).total_seconds())
    assert waits == [*WAITS, WAITS[-1]]
    assert pauses == [2, 8, 32, 128, 512, 600]


def test_a_ceiling_is_not_tried_before_the_service_wants_to_be_asked() -> None:
    soon, late = NOON + 0.1 * SECOND, NOON + 3600 * SECOND
    assert adaptive.refused_place(Found(proven=20), 20, NOON, soon).try_at == soon
    assert adaptive.refused_place(CEILING, 20, NOON, soon).try_at == NOON + 8 * SECOND
    assert adaptive.refused_place(CEILING, 20, NOON, late).try_at == late


ACCEPTED: list[Any] = [
    pytest.param(Found(proven=3), 4, 0, {"proven": 4, "ceiling": None}, id="growth"),
    pytest.param(replace(CEILING, wait=5), 12, 0, {"wait": 5}, id="with places free it tells nothing"),
    pytest.param(replace(CEILING, wait=5), 20, 0, {"wait": 4}, id="with all places taken it counts"),
    pytest.param(CEILING, 21, 0, {"ceiling": 21, "wait": 0, "per_minute": None}, id="one above may be chance"),
    pytest.param(CEILING, 22, 0, {"ceiling": None, "proven": 22, "per_minute": 1200 * MARGIN}, id="two: the rate"),
    pytest.param(CEILING, 22, 61, {"ceiling": None, "per_minute": None}, id="after a minute: more is allowed now"),
    pytest.param(replace(CEILING, refusals=3, ceiling=None), 4, 0, {"proven": 4, "refusals": 0}, id="after a guess"),
]


@pytest.mark.parametrize(("found", "flying", "later", "expected"), ACCEPTED)
def test_what_is_accepted_is_learned(found: Found, flying: int, later: float, expected: dict[str, Any]) -> None:
    sent = Sent(20, NOON - SECOND)
    after = adaptive.accepted(replace(found, willing_at=NOON), flying, False, sent, NOON + later * SECOND)
    assert {name: pytest.approx(getattr(after, name)) for name in expected} == expected


@pytest.mark.parametrize(
    ("found", "sent", "rate"),
    [
        pytest.param(Found(), Sent(60, NOON - 30 * SECOND), 60 * MARGIN, id="what passed, until it is willing again"),
        pytest.param(Found(), Sent(1, NOON - 30 * SECOND), None, id="one is no measure"),
        pytest.param(PACED, Sent(59, NOON - 30 * SECOND), 59 * MARGIN, id="measured again"),
        pytest.param(PACED, Sent(99, NOON - 30 * SECOND), 60 * CUT, id="at least a little less"),
        pytest.param(PACED, Sent(16, NOON - 30 * SECOND), 30, id="at most half"),
        pytest.param(PACED, Sent(4, NOON - 30 * SECOND), 60 * SHORT_CUT, id="so soon again"),
        pytest.param(replace(PACED, good=50.0), Sent(32, NOON - 30 * SECOND), 50, id="a trial that failed"),
    ],
)
def test_a_refusal_for_the_rate_tells_the_rate(found: Found, sent: Sent, rate: float | None) -> None:
    after = adaptive.refused_rate(found, sent, NOON, NOON + 30 * SECOND)
    assert after.per_minute == (None if rate is None else pytest.approx(rate))
    assert (after.good, after.resumed_at) == (None, NOON + 30 * SECOND)


def test_a_rate_that_holds_back_is_raised_in_growing_steps_and_goes_back_to_what_was_good() -> None:
    found = replace(PACED, rate_tries=1, rate_wait=3)
    rates = []
    for _ in range(3 + 3 * TRIAL):
        found = adaptive.accepted(found, 20, True, Sent(), NOON)
        rates.append(found.per_minute)
    assert found.per_minute
    steps = [after / before for before, after in pairwise(rates) if before and after and before != after]
    assert steps == pytest.approx([1 + 1 / 32, 1 + 1 / 16, 1 + 1 / 8, 1 + 1 / 4])
    refused = adaptive.refused_rate(found, Sent(40, NOON - SECOND), NOON, NOON)
    assert refused.per_minute == found.good == pytest.approx(found.per_minute / 1.25)


def test_a_rate_that_does_not_hold_back_is_left_alone() -> None:
    assert adaptive.accepted(PACED, 20, False, Sent(), NOON).per_minute == PACED.per_minute


def test_only_requests_that_came_one_after_the_other_measure_a_rate() -> None:
    times = [NOON + second * SECOND for second in (0, 1, 2, 40, 41, 42, 43)]
    assert adaptive.sent_in(times, 60.0) == Sent(4, times[3])
    assert adaptive.sent_in(times, None) == Sent(7, times[0])
    assert adaptive.sent_in([], 60.0) == Sent()


# --- an account played through it ------------------------------------------------------------------------------------


class Account:
    """A service that allows so many at once; generations last `lasting` steps, one submit is tried a step."""

    def __init__(self, in_flight: int, lasting: int) -> None:
        self.most, self.lasting = in_flight, lasting
        self.step = 0
        self.flying: list[int] = []
        self.answers: list[bool] = []

    def play(self, found: Found, steps: int) -> Found:
        for _ in range(steps):
            self.step += 1
            now: datetime = NOON + self.step * SECOND
            self.flying = [ends for ends in self.flying if ends > self.step]
            if len(self.flying) >= places(found, len(self.flying), now):
                continue
            taken = len(self.flying) < self.most
            self.answers.append(taken)
            if taken:
                self.flying.append(self.step + self.lasting)
                found = adaptive.accepted(found, len(self.flying), False, Sent(), now)
            else:
                found = adaptive.refused_place(found, len(self.flying), now, None)
        return found


@pytest.mark.parametrize("in_flight", [1, 2, 5, 20, 50])
def test_an_account_s_places_are_found_used_and_seldom_exceeded(in_flight: int) -> None:
    account = Account(in_flight, lasting=210)
    found = account.play(Found(), 40_000)
    possible = min(40_000, 40_000 * in_flight / 210)
    assert account.answers.count(True) >= 0.95 * possible
    assert account.answers.count(False) <= max(0.02 * len(account.answers), 12)
    assert found.ceiling == in_flight


def test_an_account_that_shrinks_and_grows_is_followed() -> None:
    account = Account(50, lasting=210)
    found = account.play(Found(), 3_000)
    account.most, before = 10, len(account.answers)
    found = account.play(found, 5_000)
    assert account.answers[before:].count(False) <= 25
    assert found.ceiling == 10
    account.most = 30
    found = account.play(found, 30_000)
    assert found.ceiling == 30
