"""Limits that are found, in rows: what a run learned the next one knows, and several share it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from freezegun.api import FrozenDateTimeFactory as Clock
from sqlalchemy import Connection

from batchgen.jobs import State
from batchgen.jobtable import statistics
from batchgen.jobtable.database import Database
from batchgen.limits import rate
from batchgen.limits.adaptive import Found
from batchgen.limits.admission import Admission, Flight
from batchgen.manifest import AUTO, Limits
from batchgen.scheduler import Scheduler
from batchgen.services.base import Accepted, Failed, Finished, Limit, SubmitOutcome, Throttled
from batchgen.stage import RunContext
from tests.conftest import NOON
from tests.processes import gather
from tests.scripted import ScriptedService, context_of, settle, turn
from tests.table import MODEL, Table, spec

SECOND = timedelta(seconds=1)
FINDING = Limits(submits_per_minute=AUTO, in_flight=AUTO)
ROW = rate.submits_of("aimlapi", ScriptedService.account, MODEL)
FULL = Throttled("429: slow", limit=Limit.IN_FLIGHT)


def finding(
    table: Table, service: ScriptedService, told: Limits = FINDING, *, models: tuple[str, ...] = ()
) -> RunContext:
    context = context_of(table, service, told)
    context.models = models or (MODEL,)
    return context


def found(table: Table, row: str = ROW) -> Found:
    return table.change(rate.found, row)


def know(table: Table, known: Found, row: str = ROW) -> None:
    def write(connection: Connection) -> None:
        rate.row_of(connection, row)
        rate.keep(connection, row, known, NOON)

    table.change(write)


async def fill(scheduler: Scheduler, clock: Clock, turns: int) -> None:
    for _ in range(turns):
        await turn(scheduler)
        clock.tick(0.01)


async def test_two_more_than_ever_before_is_sent_while_answers_are_good(table: Table, clock: Clock) -> None:
    table.sync(*(f"j{number:02}" for number in range(9)))
    service = ScriptedService()
    scheduler = Scheduler(finding(table, service), 8)
    for sent in (2, 4, 6, 8):
        await turn(scheduler)
        assert len(service.submitted) == sent
    assert found(table).proven == 8


async def test_a_refused_place_is_the_ceiling_and_costs_no_attempt(table: Table, clock: Clock) -> None:
    table.sync(*(f"j{number:02}" for number in range(9)))
    taken: list[SubmitOutcome] = [Accepted(f"g-{number}") for number in range(4)]
    scheduler = Scheduler(finding(table, ScriptedService([*taken, FULL])), 8)
    await fill(scheduler, clock, 5)
    assert list(table.states().values()).count("generating") == 4
    assert {row.attempts for row in table.rows() if row.state == "pending"} == {0}
    assert (found(table).ceiling, found(table).tries) == (4, 1)
    known = found(table)
    assert await turn(scheduler) == known.try_at, "it comes again when the ceiling may be tried"
    assert found(table) == known


@pytest.mark.parametrize(
    "end", [Finished("https://cdn.test/v.mp4"), Failed("error", "no faces")], ids=["done", "failed"]
)
async def test_a_place_that_is_freed_is_taken_at_once(table: Table, clock: Clock, end: Finished | Failed) -> None:
    from batchgen.poller import Poller

    table.sync("a", "b", "c")
    service = ScriptedService(fetches=[end])
    know(table, Found(proven=1, ceiling=1, tries=2, wait=9))
    context = finding(table, service)
    scheduler, poller = Scheduler(context, 8), Poller(context, 8)
    wait_for: list[bool] = []
    poller.on_change = lambda _stage, moved: wait_for.append(moved)
    await fill(scheduler, clock, 3)
    assert len(service.submitted) == 1
    clock.move_to(table.row("a").next_at)
    await turn(poller)
    assert wait_for == [True], "the runner rings the scheduler"
    await turn(scheduler)
    assert len(service.submitted) == 2


async def test_only_one_request_at_a_time_goes_beyond_a_ceiling(table: Table, clock: Clock) -> None:
    table.sync(*(f"j{number:02}" for number in range(9)))
    service = ScriptedService()
    know(table, Found(proven=2, ceiling=2, tries=1))
    context = finding(table, service)
    first, second = Scheduler(context, 8), Scheduler(replace(context, run="run-b"), 8)
    service.gate = asyncio.Event()
    for scheduler in (first, second, first, second):
        await scheduler.tick(NOON)
    assert len(first.tasks) + len(second.tasks) == 3
    service.gate.set()
    await settle(first)
    await settle(second)


async def test_after_a_refusal_they_go_one_at_a_time_until_one_is_taken(table: Table, clock: Clock) -> None:
    table.sync(*(f"j{number:02}" for number in range(30)))
    wait = timedelta(seconds=7)
    service = ScriptedService(
        [Throttled("429: slow", wait), Throttled("429: slow", wait), Accepted("g-1"), Accepted("g-2")]
    )
    know(table, Found(proven=20))
    scheduler = Scheduler(finding(table, service, replace(FINDING, submits_per_minute=60_000.0)), 8)
    service.submits = [Throttled("429: slow", wait)]
    await turn(scheduler)
    sent = len(service.submitted)
    for _ in range(3):
        assert await turn(scheduler) == NOON + wait, "what it asks for is honoured"
    assert len(service.submitted) == sent
    service.gate = asyncio.Event()
    clock.tick(7)
    for _ in range(3):
        await scheduler.tick(NOON + wait)
    assert len(scheduler.tasks) == 1, "no herd"
    service.submits = [Accepted("g-1")]
    service.gate.set()
    await settle(scheduler)
    await turn(scheduler)
    assert len(service.submitted) > sent + 2


async def test_refusals_of_one_moment_teach_once(table: Table, clock: Clock) -> None:
    table.sync(*(f"j{number:02}" for number in range(30)))
    know(table, Found(proven=40))
    await turn(Scheduler(finding(table, ScriptedService([FULL])), 8))
    assert list(table.states().values()).count("pending") == 30
    assert (found(table).tries, found(table).refusals) in ((1, 0), (1, 1))


async def test_the_rate_is_what_passed_until_the_service_is_willing_again(table: Table, clock: Clock) -> None:
    table.sync(*(f"j{number:02}" for number in range(30)))
    know(table, Found(proven=100, ceiling=100, tries=2, wait=9))
    taken: list[SubmitOutcome] = [Accepted(f"g-{number}") for number in range(6)]
    service = ScriptedService([*taken, Throttled("429: slow", 54 * SECOND)])
    scheduler = Scheduler(finding(table, service), 1)
    for _ in range(7):
        await turn(scheduler)
        clock.tick(1)
    assert found(table).per_minute == pytest.approx(6 * 0.98, rel=0.01)
    assert table.change(rate.allowed, rate.polls_of("aimlapi"), 6_000.0, 1, NOON + 7 * SECOND).number == 0, (
        "polls give way until submits may go on"
    )


async def test_a_quota_pauses_and_a_person_is_told_until_when(table: Table, clock: Clock) -> None:
    table.sync("mona")
    service = ScriptedService([Throttled("429: enough", timedelta(hours=5)), Accepted("g-1")])
    context = finding(table, service)
    scheduler = Scheduler(context, 8)
    await turn(scheduler)
    assert await turn(scheduler) == NOON + timedelta(hours=5)
    assert context.hold == "the account's quota is used up (429: enough)"
    assert context.hold_until == NOON + timedelta(hours=5)
    assert found(table) == Found(), "it tells nothing of rate and places"
    clock.tick(timedelta(hours=5))
    await turn(scheduler)
    assert (table.row().state, context.hold, context.hold_until or "open") == ("generating", "", "open")


async def test_a_told_limit_stands_beside_one_that_is_found(table: Table, clock: Clock) -> None:
    table.sync(*(f"j{number:02}" for number in range(9)))
    service = ScriptedService()
    know(table, Found(proven=50))
    scheduler = Scheduler(finding(table, service, replace(FINDING, in_flight=3)), 8)
    await fill(scheduler, clock, 5)
    assert len(service.submitted) == 3


async def test_a_model_that_is_full_does_not_hold_up_another(table: Table, clock: Clock) -> None:
    other = "klingai/v2.1-master-image-to-video"
    table.sync(*(f"j{number}" for number in range(9)), spec("late", model=other))
    know(table, Found(proven=2, ceiling=2, tries=2, wait=9))
    know(table, Found(proven=5), rate.submits_of("aimlapi", ScriptedService.account, other))
    scheduler = Scheduler(finding(table, ScriptedService(), models=(MODEL, other)), 8)
    await fill(scheduler, clock, 3)
    assert [key for key, state in table.states().items() if state == "generating"] == ["j0", "j1", "late"]


async def test_status_says_what_is_in_force(table: Table, clock: Clock) -> None:
    table.sync(*(f"j{number}" for number in range(9)))
    know(table, Found(proven=2, ceiling=2, tries=2, wait=9, per_minute=30.0, rate_wait=9))
    await fill(Scheduler(finding(table, ScriptedService()), 8), clock, 1)
    blockers = [wait.what for wait in table.database.read_now(statistics.blockers, table.batch_id, NOON)]
    assert (
        "a free place within the limits, which are found as it goes (in flight 1 of 2, 30 submits a minute)" in blockers
    )


def test_what_one_run_found_the_next_knows(tmp_path: Path) -> None:
    known = Found(proven=8, ceiling=8, tries=2, wait=5, try_at=NOON, per_minute=33.5, rate_tries=-1, resumed_at=NOON)
    with Database(tmp_path / "a.db") as database:
        database.write_now(rate.row_of, ROW)
        database.write_now(rate.keep, ROW, known, NOON)
    with Database(tmp_path / "a.db") as database:
        assert database.write_now(rate.found, ROW) == known
        assert database.write_now(rate.found, rate.submits_of("aimlapi", "0therkey", MODEL)) == Found()
        assert database.read_now(rate.known, "aimlapi", NOON - SECOND) == {MODEL: known}
        assert database.read_now(rate.known, "simulator", NOON - SECOND) == {}


SHARE = """
import sys
from datetime import datetime, UTC, timedelta
from batchgen.limits.admission import Admission, Flight
from batchgen.jobtable.database import Database
from batchgen.manifest import AUTO, Limits
from batchgen.services.base import Limit, Throttled
noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
with Database(sys.argv[1]) as database:
    print("ready", flush=True); sys.stdin.readline()
    admission = Admission("aimlapi", "0badcafe", Limits(submits_per_minute=AUTO, in_flight=AUTO), ("m",))
    said = Throttled("429", limit=Limit.IN_FLIGHT)
    for step in range(40):
        now = noon + timedelta(seconds=step)
        database.write_now(admission.capacity, now, 3)
        database.write_now(admission.refused, "m", Flight(noon, 20), said, now)
"""


def test_processes_share_what_is_found(table: Table) -> None:
    """Two of them are refused forty times each, for requests of the same moment: that is one refusal."""
    gather(SHARE, [table.database.path] * 2)
    known = found(table, rate.submits_of("aimlapi", "0badcafe", "m"))
    assert (known.ceiling, known.tries) == (20, 1)


def test_told_limits_leave_no_trace_of_finding(table: Table) -> None:
    admission = Admission("aimlapi", "0badcafe", Limits(), (MODEL,))
    table.change(admission.refused, MODEL, Flight(NOON), FULL, NOON)
    table.change(admission.accepted, MODEL, Flight(NOON), NOON)
    assert table.database.read_now(rate.known, "aimlapi", NOON - timedelta(days=999)) == {}
    assert State.PENDING not in table.states().values()
