"""GCRA and pauses in rows: never more requests than the rate allows, from several processes and across restarts."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, delete, select

from batchgen.jobs import State
from batchgen.jobtable.database import Database
from batchgen.jobtable.kinds import LimitKind
from batchgen.jobtable.schema import limits as rows
from batchgen.limits import rate
from batchgen.limits.adaptive import LearnedLimit
from batchgen.limits.blockers import blockers
from batchgen.limits.rate import LimitKey
from tests.conftest import NOON
from tests.processes import gather
from tests.table import Table
from tests.test_jobtable_machine import memory

KEY = LimitKey("aimlapi", LimitKind.SUBMITS)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)


def take(connection: Connection, key: LimitKey, per_minute: float, most: int, now: datetime) -> rate.Allowance:
    """Spend the whole allowance."""
    allowance = rate.allowance(connection, key, per_minute, most, now)
    rate.spend(connection, key, per_minute, allowance.number, now)
    return allowance


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    made = memory()
    yield made
    made.dispose()


def empty(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(delete(rows))


def burst(per_minute: float) -> int:
    return 1 + int(per_minute * (rate.TOLERANCE / timedelta(minutes=1)))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    per_minute=st.sampled_from([0.5, 1, 7, 30, 60, 100, 600, 6_000]),
    claims=st.lists(st.tuples(st.integers(0, 90_000), st.integers(1, 40)), min_size=1, max_size=40),
)
def test_no_window_holds_more_than_the_rate_and_one_burst(
    engine: Engine, per_minute: float, claims: list[tuple[int, int]]
) -> None:
    """`claims`: (milliseconds since the last one, most requests)."""
    empty(engine)
    passed: list[datetime] = []
    now = NOON
    for milliseconds, most in claims:
        now += timedelta(milliseconds=milliseconds)
        with engine.begin() as connection:
            allowance = take(connection, KEY, per_minute, most, now)
        assert 0 <= allowance.number <= most
        passed += [now] * allowance.number
    for first in range(len(passed)):
        for last in range(first, len(passed)):
            minutes = (passed[last] - passed[first]).total_seconds() / 60
            early = per_minute * (rate.TOLERANCE / timedelta(minutes=1))
            assert last - first <= per_minute * minutes + early + 1e-6


@settings(max_examples=40, deadline=None, derandomize=True)
@given(per_minute=st.sampled_from([0.5, 7, 30, 100, 6_000]), most=st.integers(1, 30))
def test_a_request_at_the_time_that_was_named_is_allowed(engine: Engine, per_minute: float, most: int) -> None:
    empty(engine)
    now = NOON
    for _ in range(12):
        with engine.begin() as connection:
            allowance = take(connection, KEY, per_minute, most, now)
        assert allowance.next_at
        later = max(allowance.next_at, now)
        with engine.begin() as connection:
            assert rate.allowance(connection, KEY, per_minute, 1, later).number == 1
            if later - now > timedelta(milliseconds=2):
                early = later - timedelta(milliseconds=1)
                assert rate.allowance(connection, KEY, per_minute, 1, early).number == 0
        now = later


def test_the_whole_rate_is_used(table: Table) -> None:
    """A claim every second for five minutes at 30 a minute: 150 pass, and no more than the burst besides."""
    passed = sum(table.change(take, KEY, 30.0, 8, NOON + n * SECOND).number for n in range(300))
    assert passed in range(150, 150 + burst(30) + 1)


def test_an_allowance_that_is_not_spent_costs_nothing(table: Table) -> None:
    for _ in range(3):
        assert table.change(rate.allowance, KEY, 60.0, 9, NOON).number == burst(60)
    table.change(rate.spend, KEY, 60.0, 0, NOON)
    assert table.change(rate.allowance, KEY, 60.0, 9, NOON).number == burst(60)


def test_a_restart_cannot_burst(tmp_path: Path) -> None:
    passed = 0
    for second in range(20):
        with Database(tmp_path / "a.db") as database:
            passed += database.write_now(take, KEY, 60.0, 10, NOON + second * SECOND).number
    assert passed == burst(60) + 19


def test_two_services_do_not_share_a_rate(table: Table) -> None:
    table.change(take, KEY, 1.0, 1, NOON)
    assert table.change(rate.allowance, LimitKey("simulator", LimitKind.SUBMITS), 1.0, 1, NOON).number == 1


SHARE = """
import sys
from datetime import datetime, UTC, timedelta
from batchgen.limits import rate
from batchgen.limits.adaptive import LearnedLimit
from batchgen.limits.rate import LimitKey
from batchgen.jobtable.kinds import LimitKind
from batchgen.jobtable.database import Database
def take(connection, now):
    allowance = rate.allowance(connection, LimitKey("x", LimitKind.SUBMITS), 600.0, 3, now)
    rate.spend(connection, LimitKey("x", LimitKind.SUBMITS), 600.0, allowance.number, now)
    return allowance.number
noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
with Database(sys.argv[1]) as database:
    print("ready", flush=True); sys.stdin.readline()
    print(sum(database.write_now(take, noon + timedelta(milliseconds=50 * step)) for step in range(120)))
"""


def test_processes_share_one_allowance(table: Table) -> None:
    """Three of them, six seconds each by their clocks, at ten a second."""
    passed = sum(map(int, gather(SHARE, [table.database.path] * 3)))
    assert passed in range(55, 60 + burst(600) + 1)


# --- pauses ----------------------------------------------------------------------------------------------------------


def failures(table: Table) -> int:
    return int(table.database.read_now(lambda connection: connection.execute(select(rows.c.failures)).scalar_one()))


def test_a_pause_holds_up_nothing_where_nothing_is_pending(table: Table) -> None:
    pause(table, NOON, 40)
    table.sync()
    assert table.database.read_now(blockers, table.batch_id, NOON) == []
    table.sync("mona")
    blocker = table.database.read_now(blockers, table.batch_id, NOON)[0]
    assert (blocker.jobs, blocker.reason) == (1, "a pause to end: 429")


def test_a_pause_holds_up_the_jobs_that_its_requests_are_for_and_those_of_no_other_service(table: Table) -> None:
    table.bring(State.GENERATING, "harbour")
    table.bring(State.PENDING, "mona")
    for kind, service, reason in (("submits", "aimlapi", "S"), ("polls", "aimlapi", "P"), ("submits", "other", "O")):
        table.change(rate.pause, LimitKey(service, LimitKind(kind)), reason, NOON)
    waiting = table.database.read_now(blockers, table.batch_id, NOON)
    pauses = [(blocker.jobs, blocker.reason) for blocker in waiting if "pause" in blocker.reason]
    assert sorted(pauses) == [(1, "a pause to end: P"), (1, "a pause to end: S")]


def pause(table: Table, now: datetime, retry_after: float | None = None) -> float:
    """Seconds until the pause ends."""
    ends = table.change(rate.pause, KEY, "429", now, None if retry_after is None else retry_after * SECOND)
    return (ends - now).total_seconds()


def test_a_pause_stops_every_request_until_it_ends(table: Table) -> None:
    pause(table, NOON, 40)
    for second in (0, 20, 39.999):
        allowance = table.change(rate.allowance, KEY, 60.0, 5, NOON + second * SECOND)
        assert allowance == rate.Allowance(0, NOON + 40 * SECOND, pause_reason="429", backing_off=True)
    assert table.change(rate.allowance, KEY, 60.0, 5, NOON + 40 * SECOND).number


@pytest.mark.parametrize(
    ("retry_after", "lengths"),
    [
        pytest.param(None, [2, 4, 8, 16, 32, 64, 120, 120, 120], id="none is named: they double up to the longest"),
        pytest.param(299, [299], id="a long one is obeyed"),
        pytest.param(86_400, [300, 600, 900, 900, 900], id="one too long is tried after minutes that grow to a bound"),
        pytest.param(1, [1, 2, 4, 8, 16], id="a short one that is refused again and again is not obeyed for ever"),
        pytest.param(0, [pytest.approx(0.1)], id="one of nothing is still a short pause"),
    ],
)
def test_a_pause_is_as_long_as_was_asked_and_longer_after_each_refusal(
    table: Table, retry_after: float | None, lengths: list[float]
) -> None:
    now = NOON
    for length in lengths:
        seconds = pause(table, now, retry_after)
        assert seconds == length
        now += seconds * SECOND


def test_an_accepted_request_resets_the_backoff(table: Table) -> None:
    now = NOON
    for _ in range(4):
        now += pause(table, now) * SECOND
    table.change(rate.reset_backoff, KEY)
    assert failures(table) == 0
    assert pause(table, now) == 2


def test_refusals_of_one_moment_count_once(table: Table) -> None:
    """Eight requests were on the wire when the service began to refuse them."""
    assert [pause(table, NOON + n * 0.1 * SECOND) for n in range(8)] == pytest.approx([2 - 0.1 * n for n in range(8)])
    assert failures(table) == 1


def test_the_longest_retry_after_counts(table: Table) -> None:
    assert pause(table, NOON, 30) == 30
    assert pause(table, NOON, 10) == 30
    assert pause(table, NOON, 50) == 50
    assert pause(table, NOON) == 50


@pytest.mark.parametrize(
    ("column", "ahead", "wait"),
    [
        pytest.param("paused_until", 86_400, 0, id="a pause of a day, from a clock that was set back since"),
        pytest.param("next_free_at", 86_400, 0, id="a rate's next request tomorrow, from such a clock"),
        pytest.param("next_free_at", 6_000, 0, id="or from a manifest that named a request in 100 minutes"),
        pytest.param("paused_until", 600, 600, id="a pause that may be meant stays"),
        pytest.param("next_free_at", 1, 1, id="and so does the rate"),
    ],
)
def test_a_time_that_nobody_would_write_now_stops_nothing(table: Table, column: str, ahead: int, wait: int) -> None:
    table.change(rate.row_of, KEY)
    table.change(lambda connection: rate.write(connection, KEY, **{column: NOON + ahead * SECOND, "reason": "429"}))
    allowance = table.change(rate.allowance, KEY, 60.0, 5, NOON)
    assert bool(allowance.number) == (not wait)
    if wait > 1:
        assert allowance.next_at == NOON + wait * SECOND


def learn(table: Table, kind: LimitKind, window: float) -> LimitKey:
    key = LimitKey("aimlapi", kind, "" if kind is LimitKind.POLLS else "account", "")
    table.change(rate.row_of, key)
    values = {"window": window, "threshold": window, "failed_probes": 5, "successes": 30}
    table.change(lambda connection: rate.write(connection, key, **values))
    return key


@pytest.mark.parametrize(
    ("kind", "window", "expected"),
    [
        pytest.param(LimitKind.SUBMITS, 1 / 60, LearnedLimit(1, 1), id="one request an hour"),
        pytest.param(LimitKind.SUBMITS, 0.0, LearnedLimit(1, 1), id="none at all"),
        pytest.param(LimitKind.SUBMITS, 40, LearnedLimit(40, 40), id="a rate that is good is kept"),
        pytest.param(LimitKind.IN_FLIGHT, 1, LearnedLimit(1, None), id="one in flight: slow start"),
        pytest.param(LimitKind.IN_FLIGHT, 30, LearnedLimit(30, 30), id="a number in flight that is good is kept"),
        pytest.param(LimitKind.POLLS, 1, LearnedLimit(), id="a poll a minute"),
    ],
)
def test_a_new_run_does_not_believe_what_was_learned_in_a_bad_night(
    table: Table, kind: LimitKind, window: float, expected: LearnedLimit
) -> None:
    key = learn(table, kind, window)
    table.change(rate.reset_for_run, "aimlapi", NOON)
    assert table.change(rate.learned, key) == expected


def test_a_learned_rate_of_nothing_still_lets_a_request_through_every_minute(table: Table) -> None:
    key = learn(table, LimitKind.SUBMITS, 0.0)
    for minute in range(3):
        assert table.change(take, key, 60.0, 5, NOON + minute * MINUTE).number == 1


# --- a run begins with one try ---------------------------------------------------------------------------------------


def test_a_run_that_begins_during_a_pause_tries_once_and_then_obeys(table: Table) -> None:
    pause(table, NOON, 86_400)
    table.change(rate.reset_for_run, KEY.service, NOON + SECOND)
    allowance = table.change(rate.allowance, KEY, 60.0, 5, NOON + SECOND)
    assert (allowance.number, allowance.backing_off) == (1, True), "one at a time, whoever sends it"
    assert pause(table, NOON + SECOND, 86_400) == 600
    assert table.change(rate.allowance, KEY, 60.0, 5, NOON + 2 * SECOND).number == 0


def test_a_loop_of_restarts_tries_every_ten_seconds(table: Table) -> None:
    tries = 0
    pause(table, NOON, 86_400)
    for second in range(100):
        now = NOON + second * SECOND
        table.change(rate.reset_for_run, KEY.service, now)
        if table.change(rate.allowance, KEY, 6_000.0, 5, now).number:
            tries += 1
            pause(table, now, 86_400)
    assert tries == 10


def test_a_clock_that_was_set_back_keeps_no_run_from_its_try(table: Table) -> None:
    pause(table, NOON, 86_400)
    table.change(rate.reset_for_run, KEY.service, NOON)
    pause(table, NOON, 86_400)
    earlier = NOON - 3_600 * SECOND
    table.change(rate.reset_for_run, KEY.service, earlier)
    assert table.change(rate.allowance, KEY, 60.0, 5, earlier).number == 1


def test_a_pause_survives_a_restart(tmp_path: Path) -> None:
    with Database(tmp_path / "a.db") as database:
        database.write_now(rate.pause, KEY, "429", NOON, 60 * SECOND)
    with Database(tmp_path / "a.db") as database:
        assert database.write_now(rate.allowance, KEY, 60.0, 5, NOON + SECOND).number == 0


def test_an_accepted_request_does_not_end_a_pause(table: Table) -> None:
    pause(table, NOON, 30)
    table.change(rate.reset_backoff, KEY)
    assert table.change(rate.allowance, KEY, 60.0, 5, NOON + SECOND).number == 0
