"""The reconciler: adopt what the log shows, wait while it may lag, then hold or send again, as ordered."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from freezegun.api import FrozenDateTimeFactory as Clock

from batchgen.jobs import Outcome, State
from batchgen.manifest import Limits
from batchgen.reconciler import AFTER, BEFORE, SAME_FAILURES, UNREAD_RETRIES, Reconciler
from batchgen.services.base import LoggedRequest, LogPage, Throttled, Trouble, Unavailable
from tests.conftest import NOON
from tests.scripted import ScriptedService, context_of, turn
from tests.table import HOUR, LEASE, MINUTE, SECOND, Table

Page = LogPage | Unavailable | Throttled
PATIENCE = 15 * MINUTE
HOLD, RESUBMIT = Limits(), Limits(on_unconfirmed="resubmit")
HELD, WAITING = "held", "waiting"
ABSENT, CUT_SHORT = LogPage([]), LogPage([], complete=False)
SILENT = Unavailable("no route")


def logged(table: Table, generation_id: str | None = "g-1", succeeded: bool = True, key: str = "mona") -> LoggedRequest:
    job_id = table.row(key).id
    name = next(one.client_request_id for one in table.attempts() if one.job_id == job_id)
    return LoggedRequest(name, generation_id, succeeded, NOON + SECOND, Decimal("0.28"))


def failed(table: Table) -> LoggedRequest:
    return logged(table, None, False)


def outcome_of(table: Table, key: str = "mona") -> str:
    row = table.row(key)
    if row.state != State.UNCONFIRMED:
        return str(row.state)
    return HELD if row.next_at is None else WAITING


ROWS: list[tuple[str, Any, Limits, timedelta, str]] = [
    # what the log says, the policy, how long ago the request was sent → how the job stands
    ("found", lambda t: LogPage([logged(t)]), HOLD, SECOND, State.GENERATING),
    ("found in a log cut short", lambda t: LogPage([logged(t)], complete=False), HOLD, SECOND, State.GENERATING),
    ("found long after", lambda t: LogPage([logged(t)]), RESUBMIT, 9 * PATIENCE, State.GENERATING),
    ("failed, with an id", lambda t: LogPage([logged(t, "g-1", False)]), HOLD, SECOND, State.GENERATING),
    ("failed there", lambda t: LogPage([failed(t)]), HOLD, SECOND, State.PENDING),
    ("taken, without an id", lambda t: LogPage([logged(t, None)]), HOLD, SECOND, WAITING),
    ("taken, without an id, for long", lambda t: LogPage([logged(t, None)]), RESUBMIT, PATIENCE, HELD),
    (
        "twice: failed, then taken",
        lambda t: LogPage([logged(t), logged(t, None, False)]),
        HOLD,
        SECOND,
        State.GENERATING,
    ),
    (
        "twice: taken, then failed",
        lambda t: LogPage([logged(t, None, False), logged(t)]),
        HOLD,
        SECOND,
        State.GENERATING,
    ),
    ("not there yet", lambda _: ABSENT, HOLD, PATIENCE - SECOND, WAITING),
    ("not there yet, to be resubmitted", lambda _: ABSENT, RESUBMIT, PATIENCE - SECOND, WAITING),
    ("absent", lambda _: ABSENT, HOLD, PATIENCE, HELD),
    ("absent, to be resubmitted", lambda _: ABSENT, RESUBMIT, PATIENCE, State.PENDING),
    ("cut short is not absent", lambda _: CUT_SHORT, HOLD, 9 * PATIENCE, WAITING),
    ("cut short is not absent, whatever is ordered", lambda _: CUT_SHORT, RESUBMIT, 9 * PATIENCE, WAITING),
    ("silence is not absence", lambda _: SILENT, RESUBMIT, 9 * PATIENCE, WAITING),
    ("a refusal is not absence", lambda _: Unavailable("401", Trouble.AUTH, 401), RESUBMIT, 9 * PATIENCE, WAITING),
    ("slow down is not absence", lambda _: Throttled("429"), RESUBMIT, 9 * PATIENCE, WAITING),
]


@pytest.mark.parametrize(("name", "page", "limits", "age", "stands"), ROWS, ids=[name for name, *_ in ROWS])
async def test_what_the_log_says_decides(
    table: Table, clock: Clock, name: str, page: Any, limits: Limits, age: timedelta, stands: str
) -> None:
    table.bring(State.UNCONFIRMED)
    service = ScriptedService(logs=[page(table)])
    clock.tick(age)
    await turn(Reconciler(context_of(table, service, limits), 1))
    assert outcome_of(table) == stands
    assert len(service.looked) == 1
    assert table.row().leased_by is None


async def test_a_log_that_stays_unreadable_leaves_it_to_a_person_whatever_is_ordered(
    table: Table, clock: Clock
) -> None:
    table.bring(State.UNCONFIRMED)
    reconciler = Reconciler(context_of(table, ScriptedService(logs=[SILENT]), RESUBMIT), 1)
    clock.tick(9 * PATIENCE)
    for _ in range(UNREAD_RETRIES + 1):
        assert outcome_of(table) == WAITING
        await turn(reconciler)
        clock.tick(HOUR)
    assert outcome_of(table) == HELD


async def test_an_adopted_job_goes_on_as_if_its_answer_had_come(table: Table, clock: Clock) -> None:
    table.bring(State.UNCONFIRMED)
    service = ScriptedService(logs=[LogPage([logged(table, "g:1/x")])])
    clock.tick(60)
    await turn(Reconciler(context_of(table, service), 1))
    row, (attempt,) = table.row(), table.attempts()
    assert (row.generation_id, row.submitted_at, row.next_at) == ("g:1/x", NOON + SECOND, NOON + MINUTE)
    assert (row.cost_usd, row.deadline_at, row.error) == (Decimal("0.28"), NOON + 61 * MINUTE, None)
    assert (attempt.outcome, attempt.generation_id, attempt.cost_usd) == (Outcome.ACCEPTED, "g:1/x", Decimal("0.28"))
    assert table.events()[-1].detail == "adopted g:1/x"


async def test_what_is_sent_again_is_another_attempt_and_the_first_is_kept(table: Table, clock: Clock) -> None:
    table.bring(State.UNCONFIRMED)
    clock.tick(PATIENCE)
    await turn(Reconciler(context_of(table, ScriptedService(), RESUBMIT), 1))
    assert [attempt.outcome for attempt in table.attempts()] == [Outcome.ABSENT]
    assert "sent again as ordered" in table.events()[-1].detail
    table.intend()
    assert [attempt.outcome for attempt in table.attempts()] == [Outcome.ABSENT, Outcome.SENDING]


async def test_a_job_that_alone_fails_there_time_and_again_failed_and_cost_nothing(table: Table, clock: Clock) -> None:
    table.sync("mona", "lisa")
    (mona,) = table.intend(capacity=1)
    table.lose(mona)
    table.now += SECOND
    (lisa,) = table.intend()
    table.accept(lisa)
    for _ in range(SAME_FAILURES):
        clock.tick(MINUTE)
        name = table.attempts()[-1].client_request_id if table.attempts()[2:] else mona.client_request_id
        page = LogPage([LoggedRequest(name, None, False, NOON, Decimal(0))])
        await turn(Reconciler(context_of(table, ScriptedService(logs=[page])), 1))
        for intent in table.intend():
            table.lose(intent)
    assert (outcome_of(table), table.row().error_class) == (State.FAILED, "rejected")
    assert "failed 3 times at the service" in table.row().error
    ledger = [one.outcome for one in table.attempts() if one.job_id == table.row().id]
    assert ledger == [Outcome.ABSENT] * SAME_FAILURES, "no attempt is unconfirmed"


async def test_a_service_without_a_log_holds_at_once(table: Table, clock: Clock) -> None:
    table.bring(State.UNCONFIRMED)
    service = ScriptedService(has_log=False)
    await turn(Reconciler(context_of(table, service, RESUBMIT), 1))
    assert outcome_of(table) == HELD
    assert service.looked == []


async def test_one_window_of_the_log_serves_many_attempts(table: Table, clock: Clock) -> None:
    for number in range(5):
        table.bring(State.UNCONFIRMED, f"j{number}")
        table.now += MINUTE
    clock.move_to(table.now)
    service = ScriptedService(logs=[LogPage([logged(table, f"g-{n}", key=f"j{n}") for n in (0, 2, 4)])])
    await turn(Reconciler(context_of(table, service), 1))
    assert service.looked == [(NOON - BEFORE, NOON + 4 * MINUTE + AFTER)]
    found = {row.key: row.generation_id for row in table.rows()}
    assert found == {"j0": "g-0", "j1": None, "j2": "g-2", "j3": None, "j4": "g-4"}


async def test_the_pauses_between_two_readings_of_the_log_grow(table: Table, clock: Clock) -> None:
    table.bring(State.UNCONFIRMED)
    reconciler = Reconciler(context_of(table, ScriptedService(logs=[SILENT])), 1)
    waits = []
    at = NOON
    for _ in range(8):
        await turn(reconciler)
        waits.append((table.row().next_at - at).total_seconds())
        at = table.row().next_at
        clock.move_to(at)
    assert waits == [3, 6, 12, 24, 48, 96, 120, 120]


async def test_a_machine_that_slept_over_the_answer_does_not_take_it_for_patience(table: Table, clock: Clock) -> None:
    """What was not in the log a second after the request may be in it by now."""
    table.bring(State.UNCONFIRMED)
    clock.tick(1)
    service = ScriptedService(logs=[ABSENT])
    service.before = lambda: clock.tick(8 * 3600)
    await turn(Reconciler(context_of(table, service, RESUBMIT), 1))
    assert outcome_of(table) == WAITING


async def test_an_expired_lease_of_a_run_elsewhere_leaves_an_unconfirmed_attempt(table: Table, clock: Clock) -> None:
    intent = table.bring(State.SUBMITTING, worker="elsewhere")
    service = ScriptedService(logs=[LogPage([logged(table)])])
    reconciler = Reconciler(context_of(table, service), 1)
    assert await turn(reconciler) == NOON + LEASE
    assert service.looked == []
    clock.tick(LEASE)
    await turn(reconciler)
    assert (table.row().state, table.row().generation_id) == ("generating", "g-1")
    table.now += LEASE
    assert not table.accept(intent, "g-1"), "its answer, late"


async def test_an_answer_that_comes_while_the_log_is_read_wins(table: Table, clock: Clock) -> None:
    intent = table.bring(State.UNCONFIRMED)
    clock.tick(PATIENCE)
    service = ScriptedService(logs=[ABSENT])
    service.before = lambda: table.accept(intent, "g-late")
    await turn(Reconciler(context_of(table, service, RESUBMIT), 1))
    assert (table.row().state, table.row().generation_id) == ("generating", "g-late")
    assert [attempt.outcome for attempt in table.attempts()] == [Outcome.ACCEPTED]


async def test_what_is_held_waits_for_a_person_not_for_a_time(table: Table, clock: Clock) -> None:
    table.bring(State.UNCONFIRMED)
    clock.tick(PATIENCE)
    reconciler = Reconciler(context_of(table, ScriptedService()), 1)
    await turn(reconciler)
    clock.tick(9 * 3600)
    assert await turn(reconciler) is None
    assert outcome_of(table) == HELD
