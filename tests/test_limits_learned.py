"""Learned limits in rows: what one run has learned the next one begins with, and several runs share it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from freezegun.api import FrozenDateTimeFactory as Clock
from sqlalchemy import Connection

from batchgen.context import COMPARING, RunContext
from batchgen.jobs import ChargeSource, Outcome, State
from batchgen.jobtable import ledger
from batchgen.jobtable.database import Database
from batchgen.jobtable.kinds import LimitKind
from batchgen.jobtable.ledger import Totals
from batchgen.limits import blockers, rate
from batchgen.limits.adaptive import MARGIN, LearnedLimit, LearnedLimits
from batchgen.limits.admission import Admission, Admitted
from batchgen.limits.blockers import WaitKind
from batchgen.limits.rate import LimitKey
from batchgen.manifest.limits import AUTO, Limits
from batchgen.poller import Poller
from batchgen.scheduler import Scheduler
from batchgen.services.base import Adoption, Features, Queueing
from batchgen.services.outcomes import Accepted, Failed, Finished, Limit, SubmitOutcome, Throttled
from tests.conftest import NOON
from tests.processes import gather
from tests.scripted import ScriptedService, change_spec, context_of, settle, turn
from tests.table import MODEL, Table, spec

SECOND = timedelta(seconds=1)
BOTH_AUTO = Limits(submits_per_minute=AUTO, in_flight=AUTO)
OTHER_MODEL = "klingai/v2.1-master-image-to-video"
FULL = Throttled("429: slow", limit=Limit.IN_FLIGHT)


def key(kind: LimitKind, model: str = MODEL, account: str = ScriptedService.account) -> LimitKey:
    return LimitKey("aimlapi", kind, account, model)


def held_at(number: float, failed_probes: int = 2) -> LearnedLimit:
    """A limit whose next probe is far away."""
    return LearnedLimit(number, number, failed_probes)


def learning(
    table: Table, service: ScriptedService, limits: Limits = BOTH_AUTO, *, models: tuple[str, ...] = (MODEL,)
) -> RunContext:
    context = context_of(table, service, limits)
    change_spec(context, models=models)
    return context


def learned(table: Table, kind: LimitKind = LimitKind.IN_FLIGHT, model: str = MODEL) -> LearnedLimit:
    return table.change(rate.learned, key(kind, model))


def store(table: Table, limit: LearnedLimit, kind: LimitKind = LimitKind.IN_FLIGHT, model: str = MODEL) -> None:
    def write(connection: Connection) -> None:
        rate.row_of(connection, key(kind, model))
        rate.store(connection, key(kind, model), limit, NOON)

    table.change(write)


def sync(table: Table, number: int) -> None:
    table.sync(*(f"j{index:02}" for index in range(number)))


async def turns(scheduler: Scheduler, clock: Clock, number: int) -> None:
    for _ in range(number):
        await turn(scheduler)
        clock.tick(0.01)


def accepted(number: int) -> list[SubmitOutcome]:
    return [Accepted(f"g-{index}") for index in range(number)]


async def test_slow_start_keeps_two_more_on_the_wire_than_were_accepted(table: Table, clock: Clock) -> None:
    sync(table, 9)
    service = ScriptedService()
    scheduler = Scheduler(learning(table, service), 8)
    for sent in (2, 4, 6, 8):
        await turn(scheduler)
        assert len(service.submitted) == sent
    assert learned(table) == LearnedLimit(window=10)


async def test_a_refusal_sets_the_window_and_costs_nothing(table: Table, clock: Clock) -> None:
    sync(table, 9)
    scheduler = Scheduler(learning(table, ScriptedService([*accepted(4), FULL])), 8)
    await turns(scheduler, clock, 5)
    assert list(table.states().values()).count("generating") == 4
    refused = [attempt for attempt in table.attempts() if attempt.outcome != Outcome.ACCEPTED]
    assert {(attempt.outcome, attempt.generation_id, attempt.cost_usd) for attempt in refused} == {
        (Outcome.THROTTLED, None, None)
    }
    assert {row.attempt_id for row in table.rows() if row.state == "pending"} == {None}
    assert table.database.read_now(ledger.totals, table.batch_id) == table.recomputed_totals() == Totals(unpriced=4)
    assert (learned(table).window, learned(table).threshold) == (4, 4)
    clock.tick(60)
    before = learned(table)
    await turn(scheduler)
    assert learned(table) == before, "nothing is sent while the window is full"


async def test_where_the_service_does_not_say_a_second_refusal_shows_that_it_is_for_those_in_flight(
    table: Table, clock: Clock
) -> None:
    sync(table, 9)
    refusal = Throttled("429: slow", SECOND)
    service = ScriptedService([*accepted(4), refusal, refusal, refusal])
    scheduler = Scheduler(learning(table, service), 8)
    await turns(scheduler, clock, 3)
    assert learned(table).threshold is None
    assert learned(table, LimitKind.SUBMITS).threshold, "the first one is taken to be for the rate"
    clock.tick(1)
    await turn(scheduler)
    assert len(service.submitted) == 7
    assert learned(table).threshold == 4


async def test_a_refusal_for_the_rate_is_not_taken_for_one_of_those_in_flight(table: Table, clock: Clock) -> None:
    sync(table, 30)
    service = ScriptedService([*accepted(4), Throttled("429: slow", 58 * SECOND), Accepted("g-9")])
    scheduler = Scheduler(learning(table, service), 1)
    await turns(scheduler, clock, 5)
    clock.tick(58)
    await turns(scheduler, clock, 3)
    assert learned(table).threshold is None
    assert learned(table, LimitKind.SUBMITS).window == pytest.approx(4 / 58 * 60 * MARGIN, rel=0.01)


@pytest.mark.parametrize("end", [Finished(("https://cdn.test/v.mp4",)), Failed("no faces")], ids=["done", "failed"])
async def test_the_place_of_a_generation_that_ends_is_taken_at_once(
    table: Table, clock: Clock, end: Finished | Failed
) -> None:
    table.sync("a", "b", "c")
    service = ScriptedService(fetches=[end])
    store(table, held_at(1))
    context = learning(table, service)
    scheduler, poller = Scheduler(context, 8), Poller(context, 8)
    changes: list[bool] = []
    poller.on_change = lambda _stage, moved: changes.append(moved)
    await turns(scheduler, clock, 3)
    assert len(service.submitted) == 1
    clock.move_to(table.row("a").next_at)
    await turn(poller)
    assert changes == [True], "the runner wakes the scheduler"
    await turn(scheduler)
    assert len(service.submitted) == 2


async def test_two_runs_together_keep_to_the_window(table: Table, clock: Clock) -> None:
    sync(table, 9)
    service = ScriptedService()
    store(table, held_at(3))
    context = learning(table, service)
    first, second = Scheduler(context, 8), Scheduler(replace(context, run_id="run-b"), 8)
    service.gate = asyncio.Event()
    for scheduler in (first, second, first, second):
        await scheduler.tick(NOON)
    assert len(first.tasks) + len(second.tasks) == 3
    service.gate.set()
    await settle(first)
    await settle(second)


async def test_after_a_refusal_requests_go_one_at_a_time_until_one_is_accepted(table: Table, clock: Clock) -> None:
    sync(table, 30)
    wait = timedelta(seconds=7)
    service = ScriptedService([Throttled("429: slow", wait)])
    store(table, held_at(20))
    scheduler = Scheduler(learning(table, service, replace(BOTH_AUTO, submits_per_minute=60_000.0)), 8)
    await turn(scheduler)
    sent = len(service.submitted)
    for _ in range(3):
        assert await turn(scheduler) == NOON + wait, "Retry-After is honoured"
    assert len(service.submitted) == sent
    service.gate = asyncio.Event()
    clock.tick(7)
    for _ in range(3):
        await scheduler.tick(NOON + wait)
    assert len(scheduler.tasks) == 1, "no thundering herd"
    service.submits = [Accepted("g-1")]
    service.gate.set()
    await settle(scheduler)
    await turn(scheduler)
    assert len(service.submitted) > sent + 2


async def test_refusals_of_one_moment_count_once(table: Table, clock: Clock) -> None:
    sync(table, 30)
    store(table, held_at(40))
    await turn(Scheduler(learning(table, ScriptedService([FULL])), 8))
    assert list(table.states().values()).count("pending") == 30
    assert learned(table).window == 20, "one decrease, by half, since none was in flight"


def bring_in_flight(table: Table, number: int) -> Admission:
    for index in range(number):
        table.bring(State.GENERATING, f"g{index}")
    return Admission(ScriptedService(), BOTH_AUTO)


def test_an_answer_that_comes_after_the_pause_counts_with_the_refusal_that_began_it(table: Table) -> None:
    admission, refusal = bring_in_flight(table, 4), Throttled("429: slow", SECOND)
    admitted = Admitted(NOON)
    table.change(admission.refused, MODEL, admitted, refusal, NOON + SECOND)
    table.change(admission.refused, MODEL, admitted, refusal, NOON + 9 * SECOND)
    assert learned(table).threshold is None, "it was not refused again after the wait"
    table.change(admission.refused, MODEL, Admitted(NOON + 20 * SECOND), refusal, NOON + 21 * SECOND)
    assert learned(table).threshold == 4


def test_a_service_that_could_not_be_reached_has_refused_nothing(table: Table) -> None:
    admission = bring_in_flight(table, 4)
    for minute in range(3):
        table.change(rate.pause, admission.service_key, "no route", NOON + minute * 60 * SECOND)
    later = NOON + 600 * SECOND
    table.change(admission.refused, MODEL, Admitted(later), Throttled("429: slow", SECOND), later)
    assert learned(table).threshold is None


async def test_the_rate_is_what_was_accepted_until_the_service_is_willing_again(table: Table, clock: Clock) -> None:
    sync(table, 30)
    store(table, held_at(100))
    service = ScriptedService([*accepted(6), Throttled("429: slow", 54 * SECOND)])
    scheduler = Scheduler(learning(table, service), 1)
    for _ in range(7):
        await turn(scheduler)
        clock.tick(1)
    assert learned(table, LimitKind.SUBMITS).window == pytest.approx(6 * MARGIN, rel=0.01)
    assert (
        table.change(rate.allowance, LimitKey("aimlapi", LimitKind.POLLS), 6_000.0, 1, NOON + 7 * SECOND).number == 0
    ), "polls wait as well: they may share the account's requests"


async def test_without_a_retry_after_the_rate_is_taken_to_be_for_a_minute(table: Table, clock: Clock) -> None:
    sync(table, 30)
    store(table, held_at(100))
    scheduler = Scheduler(learning(table, ScriptedService([*accepted(6), Throttled("429: slow")])), 1)
    for _ in range(7):
        await turn(scheduler)
        clock.tick(1)
    assert learned(table, LimitKind.SUBMITS).window == pytest.approx(6 * MARGIN, rel=0.01)


def test_refusals_during_the_backoff_do_not_lower_the_rate_again(table: Table) -> None:
    admission, refusal = bring_in_flight(table, 4), Throttled("429: slow")
    rates = []
    for seconds in (1, 5, 11, 21):
        now = NOON + seconds * SECOND
        table.change(admission.refused, MODEL, Admitted(now), refusal, now)
        rates.append(learned(table, LimitKind.SUBMITS).window)
    assert rates == [pytest.approx(4 * MARGIN)] * 4


async def test_a_used_up_quota_pauses_submits_and_the_reason_says_until_when(table: Table, clock: Clock) -> None:
    table.sync("mona")
    service = ScriptedService([Throttled("429: enough", timedelta(hours=5), limit=Limit.QUOTA), Accepted("g-1")])
    context = learning(table, service)
    scheduler = Scheduler(context, 8)
    await turn(scheduler)
    assert await turn(scheduler) == NOON + timedelta(minutes=5)
    assert context.wait_reason == "the account's quota is used up (429: enough)"
    assert context.wait_until == NOON + timedelta(minutes=5), "one request tries whether that is meant"
    assert learned(table) == learned(table, LimitKind.SUBMITS) == LearnedLimit(), "it says nothing of the limits"
    clock.tick(timedelta(minutes=5))
    await turn(scheduler)
    assert (table.row().state, context.wait_reason, context.wait_until or "open") == ("generating", "", "open")


async def test_a_reason_without_an_end_does_not_keep_the_end_of_an_earlier_one(table: Table, clock: Clock) -> None:
    table.sync("mona")
    context = learning(table, ScriptedService([Throttled("429: enough", timedelta(hours=5), limit=Limit.QUOTA)]))
    scheduler = Scheduler(context, 8)
    await turn(scheduler)
    await turn(scheduler)
    assert context.wait_until == NOON + timedelta(minutes=5)
    context.compared = -1  # as of a manifest that was enrolled again
    await turn(scheduler)
    assert (context.wait_reason, context.wait_until or "open") == (COMPARING, "open")


async def test_a_named_limit_holds_beside_a_learned_one(table: Table, clock: Clock) -> None:
    sync(table, 9)
    service = ScriptedService()
    scheduler = Scheduler(learning(table, service, replace(BOTH_AUTO, in_flight=3)), 8)
    await turns(scheduler, clock, 5)
    assert len(service.submitted) == 3


async def test_a_model_that_is_full_does_not_hold_up_another(table: Table, clock: Clock) -> None:
    table.sync(*(f"j{number}" for number in range(9)), spec("late", model=OTHER_MODEL))
    store(table, held_at(2))
    store(table, LearnedLimit(5), model=OTHER_MODEL)
    scheduler = Scheduler(learning(table, ScriptedService(), models=(MODEL, OTHER_MODEL)), 8)
    await turns(scheduler, clock, 3)
    assert [name for name, state in table.states().items() if state == "generating"] == ["j0", "j1", "late"]


async def test_status_says_which_limits_are_in_force(table: Table, clock: Clock) -> None:
    sync(table, 9)
    store(table, held_at(2))
    store(table, held_at(30.0), LimitKind.SUBMITS)
    await turns(Scheduler(learning(table, ScriptedService()), 8), clock, 1)
    read, batch_id = table.database.read_now, table.batch_id
    reasons = [blocker.reason for blocker in read(blockers.blockers, batch_id, NOON)]
    assert (
        "a free place within the limits, which are learned from the service's answers"
        " (in flight 1 of 2, 30 submits a minute)" in reasons
    )
    store(table, LearnedLimit(-5, 1))  # as somebody edited it
    assert any("(in flight 1, 30 submits" in blocker.reason for blocker in read(blockers.blockers, batch_id, NOON))
    without_run = read(blockers.blockers, batch_id, NOON, is_run_at_work=False)
    assert (WaitKind.RUN, "a run") in [(blocker.kind, blocker.reason) for blocker in without_run], (
        "without a run, the jobs wait for one and not for its limits"
    )


def test_what_one_run_has_learned_the_next_one_begins_with(tmp_path: Path) -> None:
    window = LearnedLimit(9, 8, failed_probes=2, successes=5)
    per_minute = LearnedLimit(33.5, 33.5, failed_probes=-1)
    with Database(tmp_path / "a.db") as database:
        for kind, limit in ((LimitKind.IN_FLIGHT, window), (LimitKind.SUBMITS, per_minute)):
            database.write_now(rate.row_of, key(kind))
            database.write_now(rate.store, key(kind), limit, NOON)
    with Database(tmp_path / "a.db") as database:
        assert database.write_now(rate.learned, key(LimitKind.IN_FLIGHT)) == window
        assert database.write_now(rate.learned, key(LimitKind.IN_FLIGHT, account="another")) == LearnedLimit()
        limits = LearnedLimits(window, per_minute)
        assert database.read_now(rate.learned_by_model, "aimlapi", NOON - SECOND) == {MODEL: limits}
        assert database.read_now(rate.learned_by_model, "aimlapi", NOON + SECOND) == {}
        assert database.read_now(rate.learned_by_model, "simulator", NOON - SECOND) == {}


SHARE = """
import sys
from datetime import datetime, UTC, timedelta
from batchgen.limits.admission import Admission, Admitted
from batchgen.jobtable.database import Database
from batchgen.manifest.limits import AUTO, Limits
from batchgen.services.outcomes import Limit, Throttled
from tests.scripted import ScriptedService
noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
with Database(sys.argv[1]) as database:
    print("ready", flush=True); sys.stdin.readline()
    admission = Admission(ScriptedService(), Limits(submits_per_minute=AUTO, in_flight=AUTO))
    refusal = Throttled("429", limit=Limit.IN_FLIGHT)
    for step in range(40):
        now = noon + timedelta(seconds=step)
        database.write_now(admission.capacity, ("MODEL",), now, 3)
        database.write_now(admission.refused, "MODEL", Admitted(noon), refusal, now)
""".replace("MODEL", MODEL)


def test_processes_share_what_they_learn(table: Table) -> None:
    """Two of them are refused forty times each, for requests of the same moment: that is one refusal."""
    store(table, held_at(64))
    gather(SHARE, [table.database.path] * 2)
    assert learned(table).window == 32


async def test_of_a_service_that_queues_whatever_is_sent_no_number_in_flight_is_learned(
    table: Table, clock: Clock
) -> None:
    """It refuses nothing, so that there is nothing to learn from: the jobs wait in its queue instead of in ours."""
    sync(table, 30)
    features = Features(Adoption.EXACT_ID, Queueing.ACCEPTS, charges=ChargeSource.LEDGER)
    service = ScriptedService(features=features)
    scheduler = Scheduler(learning(table, service, replace(BOTH_AUTO, submits_per_minute=60_000.0)), 8)
    await turns(scheduler, clock, 4)
    assert len(service.submitted) == 30, "no slow start"
    assert table.database.read_now(rate.learned_by_model, "aimlapi", NOON - SECOND) == {}


def test_named_limits_learn_nothing(table: Table) -> None:
    admission = Admission(ScriptedService(), Limits())
    table.change(admission.refused, MODEL, Admitted(NOON), FULL, NOON)
    table.change(admission.accepted, MODEL, Admitted(NOON), NOON)
    assert table.database.read_now(rate.learned_by_model, "aimlapi", NOON - timedelta(days=999)) == {}
