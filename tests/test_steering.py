"""Steering a live run: pause, resume, set, prioritize, cancel and retry, by rows that every run heeds."""

from __future__ import annotations

import asyncio
import importlib
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path

import pytest
from freezegun.api import FrozenDateTimeFactory as Clock

from batchgen import run
from batchgen.api.opening import enroll_only
from batchgen.context import RunSpec
from batchgen.errors import ExitCode, UsageError
from batchgen.jobtable import ledger, settings, statistics, submission
from batchgen.jobtable.kinds import SettingName
from batchgen.jobtable.selection import Selection, select_jobs
from batchgen.limits import accounting, steering
from batchgen.limits.steering import EnrolledManifest, read_steering
from batchgen.manifest.limits import AUTO, Limits
from batchgen.measurer import Measurer
from batchgen.runner import Runner
from batchgen.runs.ending import money_remarks
from batchgen.runs.upkeep import Upkeep
from batchgen.scheduler import Scheduler
from batchgen.services.base import AT_ONCE, Cancelling
from batchgen.services.outcomes import Accepted, Blocked, FetchOutcome, SubmitOutcome, Trouble, Working
from tests.batches import Bill, write_manifest
from tests.conftest import NOON, Command, Launch, Simulate
from tests.events import check_events
from tests.imitations import queueworks
from tests.scripted import ScriptedService, change_spec, context_of, turn
from tests.table import MODEL, SECOND, Table, spec
from tests.test_budget import KNOWN
from tests.waiting import rows, states, until

ANNA = "anna@studio"
FAST = Limits(submits_per_minute=60_000, in_flight=100)


def set_values(table: Table, **values: object) -> None:
    changes = {SettingName(name): value for name, value in values.items()}
    table.change(steering.change, table.batch_id, "aimlapi", changes, table.now, ANNA)


async def test_what_was_claimed_before_a_pause_is_sent_and_followed_and_nothing_else_is(table: Table) -> None:
    table.sync("a", "b")
    service = ScriptedService(before=lambda: table.change(steering.pause, table.batch_id, table.now, ANNA))
    scheduler = Scheduler(context_of(table, service, replace(FAST, in_flight=1)), AT_ONCE)
    await turn(scheduler)
    scheduler.context.limits = FAST
    await turn(scheduler)
    assert [submission.client_request_id for submission in service.submitted] == [table.attempt("a").client_request_id]
    assert table.states() == {"a": "generating", "b": "pending"}
    table.change(steering.resume, table.batch_id, table.now, ANNA)
    await turn(scheduler)
    assert table.states() == {"a": "generating", "b": "generating"}


async def test_a_claim_acts_on_the_settings_of_its_own_transaction(table: Table) -> None:
    table.sync("a", "b", "c", "d")
    context = context_of(table, ScriptedService(), replace(FAST, in_flight=AUTO))
    change_spec(context, models=(MODEL,))
    scheduler = Scheduler(context, AT_ONCE)
    set_values(table, in_flight=1)
    await turn(scheduler)
    assert list(table.states().values()).count("generating") == 1
    set_values(table, in_flight=3)
    await turn(scheduler)
    assert list(table.states().values()).count("generating") == 3
    set_values(table, in_flight=None)
    await turn(scheduler)
    assert list(table.states().values()).count("generating") == 4
    assert scheduler.admission.learns_in_flight


def test_a_worker_keeps_to_the_limits_of_a_manifest_that_is_enrolled_again_while_it_runs(table: Table) -> None:
    table.sync("mona")
    context = context_of(table, ScriptedService())
    change_spec(context, is_worker=True)
    for cap, expected in (("20", 20), ("0.01", Decimal("0.01"))):
        enrolled = EnrolledManifest(replace(FAST, max_cost=Decimal(cap)))
        table.change(settings.record_manifest, table.batch_id, str(enrolled), table.now, ANNA)
        table.database.read_now(context.heed)
        assert (context.limits.in_flight, context.limits_in_force.max_cost) == (100, expected)
    set_values(table, max_cost=Decimal(7))
    table.database.read_now(context.heed)
    assert context.limits_in_force.max_cost == 7, "what a person has set goes before the manifest"


@pytest.mark.parametrize(("has_typed_cap", "expected"), [(False, Decimal(3)), (True, Decimal(50))])
def test_the_cap_of_a_manifest_that_is_enrolled_again_holds_for_a_run_at_work_unless_one_was_typed(
    has_typed_cap: bool, expected: Decimal, table: Table
) -> None:
    """Its new jobs are sent by this run, too."""
    table.sync("mona")
    context = context_of(table, ScriptedService(), replace(FAST, in_flight=9, max_cost=Decimal(50)))
    change_spec(context, typed='{"max_cost": "50"}' if has_typed_cap else None)
    enrolled = EnrolledManifest(replace(FAST, max_cost=Decimal(3)))
    table.change(settings.record_manifest, table.batch_id, str(enrolled), table.now, ANNA)
    table.database.read_now(context.heed)
    assert context.limits_in_force.max_cost == expected
    assert context.limits.in_flight == 9, "its other limits are those that the run began with"


def test_the_end_of_a_run_says_that_the_batch_has_cost_more_than_its_cap(table: Table) -> None:
    context = context_of(table, ScriptedService())
    empty = table.database.read_now(statistics.batch_summary, table.batch_id, table.now)
    summary = replace(empty, cost_usd=Decimal(4))
    context.limits = Limits(max_cost=Decimal(4))
    assert list(money_remarks(context, summary)) == []
    context.limits, context.uncompared = Limits(max_cost=Decimal(3)), "503"
    too_much, unread = money_remarks(context, summary)
    assert "more than its max_cost of 3: the cap came later, an earlier run had a higher one, " in too_much
    assert "the log did not answer (503)" in unread


async def test_a_higher_rate_does_not_wait_for_the_interval_of_the_lower_one(table: Table) -> None:
    table.sync("a", "b", "c")
    scheduler = Scheduler(context_of(table, ScriptedService(), Limits(submits_per_minute=1.0)), 1)
    await turn(scheduler)
    set_values(table, submits_per_minute=60.0)
    (row,) = table.database.read_now(lambda connection: connection.exec_driver_sql("SELECT next_free_at FROM limits"))
    assert row.next_free_at == "2026-03-01T12:00:01.000000Z"


async def test_the_jobs_that_a_person_prioritizes_go_first_whatever_a_manifest_says_again(
    table: Table, batchgen: Command
) -> None:
    specs = [spec("a", priority=9), spec("b"), spec("hero-1"), spec("hero-2"), spec("z")]
    table.sync(*specs)

    def order(selection: Selection | None = None) -> str:
        selected = table.database.read_now(select_jobs, table.batch_id, selection) if selection else None
        ready = table.database.read_now(submission.ready, table.batch_id, 9, selected)
        keys = {row.id: row.key for row in table.rows()}
        return " ".join(keys[job.id] for job in ready)

    def prioritize(*words: str) -> str:
        ended = batchgen("prioritize", "spring.yaml", *words)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout.strip()

    assert order() == "a b hero-1 hero-2 z"
    assert prioritize("z", "hero-*") == "3 jobs go first: z, hero-1, hero-2"
    assert order() == "z hero-1 hero-2 a b"
    table.sync(*specs)
    assert order() == "z hero-1 hero-2 a b"
    # Which jobs a selection has does not depend on it, only when they are sent.
    assert order(Selection(limit=3)) == "hero-1 a b"
    assert prioritize("*") == "5 jobs go first: a, b, hero-1, hero-2, z"
    assert order() == "a b hero-1 hero-2 z"


REFUSED = [
    (("set", "in_flight=2000"), "`in_flight` must be more than 0 and at most 1,000, not 2000"),
    (("set", "in_flight=some"), '`in_flight` must be a whole number or auto, not "some"'),
    (("set", "max_cost=-1"), "`max_cost` must be more than 0 and at most 1,000,000,000, not -1"),
    (("set", "max_cost=80 USD"), "`max_cost` must be an amount in USD, such as 50.00"),
    (
        ("set", "max_cost=none"),
        "`max_cost` is lifted by a value that is not reached: max_cost=1000000000; max_cost= goes",
    ),
    (("set", "max_cost=Unlimited"), "max_cost=1000000000"),
    (("set", "max-cost=null"), "max_cost=1000000000"),
    (("set", "until=off"), "`until` is lifted by a value that is not reached: until=2099-01-01; until= goes"),
    (("set", "in_flight=off"), '`in_flight` must be a whole number or auto, not "off"'),
    (("set", "inflight=3"), "there is no setting `inflight`; did you mean in_flight?"),
    (("set", "mood="), "there is no setting `mood`; known: in_flight"),
    (("set", "deadline_minutes=3"), "`deadline_minutes` cannot be set while a run is at work"),
    (("set", "in_flight"), "'in_flight' is no assignment: write NAME=VALUE"),
    (("set", "in_flight=3", "in-flight=4"), "`in_flight` is there twice"),
    (("set", "until=noon"), "'noon' is not a time such as 08:00"),
    (("set", "until=9999-12-31T23:59-23:59"), "'9999-12-31T23:59-23:59' is not a time such as 08:00"),
    (("prioritize", "[" * 60_000), "this has 60,000 characters; at most 1,000 are allowed"),
    (("prioritize",), "name at least one job"),
    (("prioritize", "mina"), "mina: no job of this batch has such an id; did you mean mona?"),
    (("prioritize", "caf\udce9"), "no job of this batch has such an id"),
]


@pytest.mark.parametrize(
    ("words", "message"), REFUSED, ids=lambda value: " ".join(value)[:60] if type(value) is tuple else ""
)
def test_what_cannot_be_set_is_refused_in_the_manifests_words_and_nothing_is_changed(
    words: Sequence[str], message: str, table: Table, batchgen: Command
) -> None:
    table.sync("mona")
    ended = batchgen(words[0], "spring.yaml", *words[1:])
    assert (ended.returncode, message in ended.stderr) == (2, True), ended.stderr
    assert "Traceback" not in ended.stderr
    assert table.database.read_now(settings.current, table.batch_id) == []


@pytest.mark.parametrize("name", ["pause", "resume", "set", "prioritize"])
def test_a_batch_that_was_never_run_cannot_be_steered(name: str, tmp_path: Path, batchgen: Command) -> None:
    write_manifest(tmp_path / "m.yaml", 1)
    ended = batchgen(name, "m.yaml", *(["clip-0"] if name == "prioritize" else []), "--json")
    assert (ended.returncode, check_events(ended.stdout)[-1]["exit_code"]) == (2, 2)
    assert "there is no job table yet" in ended.stderr


@pytest.mark.slow
def test_what_is_enrolled_while_a_run_is_at_work_is_compared_with_the_log_before_it_is_sent(
    tmp_path: Path, simulate: Simulate, launch: Launch, batchgen: Command
) -> None:
    """The run waits in a pause. Meanwhile a job is added that another table has bought."""
    service, database = simulate(), tmp_path / "batchgen.db"
    one, two = {"id": "one", "prompt": "A lighthouse."}, {"id": "two", "prompt": "A harbour."}
    (tmp_path / "old").mkdir()
    write_manifest(tmp_path / "old" / "m.yaml", [two])
    assert batchgen("run", "old/m.yaml", **service.environment).returncode == 0
    write_manifest(tmp_path / "m.yaml", [one])
    assert batchgen("run", "m.yaml", "--enroll").returncode == 0
    assert batchgen("pause", "m.yaml").returncode == 0
    running = launch("run", "m.yaml", **service.environment)
    until(lambda: rows(database, "SELECT * FROM batches WHERE compared_at IS NOT NULL"))
    write_manifest(tmp_path / "m.yaml", [one, two], limits={"unconfirmed_minutes": 0.01})  # the log is never late
    assert batchgen("run", "m.yaml", "--enroll").returncode == 0
    assert batchgen("resume", "m.yaml").returncode == 0
    ended = running.end()
    assert (ended.returncode, "two: the service's log has it" in ended.stderr) == (2, True), ended.stderr
    assert Bill(service.ledger).duplicates == 0
    assert rows(database, "SELECT state FROM jobs WHERE key = 'two'") == [{"state": "pending"}]
    ended = batchgen("run", "m.yaml", "--changed", "keep", **service.environment)
    assert (ended.returncode, len(Bill(service.ledger).accepted)) == (0, 2), ended.stderr


@pytest.mark.slow
def test_a_job_that_is_enrolled_while_the_last_clips_are_measured_is_delivered(
    tmp_path: Path, simulate: Simulate, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in simulate().environment.items():
        monkeypatch.setenv(name, value)
    one, two = {"id": "one", "prompt": "A lighthouse."}, {"id": "two", "prompt": "A harbour."}
    manifest = write_manifest(tmp_path / "m.yaml", [one])
    measured: list[Measurer] = []

    async def measure_remaining(measurer: Measurer) -> None:
        measured.append(measurer)
        if len(measured) == 1:
            write_manifest(manifest, [one, two])
            await asyncio.to_thread(asyncio.run, enroll_only(manifest, {}))

    monkeypatch.setattr(Measurer, "measure_remaining", measure_remaining)
    result = run(manifest)
    assert (result.exit_code, [(job.id, job.state) for job in result.jobs]) == (0, [("one", "done"), ("two", "done")])
    assert len(measured) == 2


def test_a_cap_below_what_is_spent_or_reserved_is_remarked_on(table: Table, batchgen: Command) -> None:
    table.sync("mona")
    (job,) = table.intend()
    table.accept(job, cost="0.25")
    spent = table.database.read_now(ledger.totals, table.batch_id).committed
    assert spent == Decimal("0.25")
    remark = "is spent or reserved: nothing more is sent until max_cost is raised"
    assert remark in batchgen("set", "spring.yaml", f"max_cost={spent}").stderr
    assert remark not in batchgen("set", "spring.yaml", f"max_cost={spent * 2}").stderr


@pytest.mark.slow
def test_a_simulation_is_steered_only_where_it_is_meant_and_commands_to_type_keep_it(
    tmp_path: Path, simulate: Simulate, batchgen: Command
) -> None:
    write_manifest(tmp_path / "real.yaml", 2)
    write_manifest(tmp_path / "tried.yaml", 2)
    environment = simulate().environment
    assert batchgen("run", "real.yaml", "--enroll").returncode == 0
    assert batchgen("run", "tried.yaml", "--enroll", "--simulate").returncode == 0
    for command in (("cancel",), ("pause",), ("set", "in_flight=3"), ("retry",)):
        refused = batchgen(command[0], "real.yaml", *command[1:], "--simulate")
        assert (refused.returncode, "not run with --simulate yet" in refused.stderr) == (2, True)
    assert batchgen("cancel", "tried.yaml", "clip-0").returncode == 0
    assert "`batchgen run tried.yaml --simulate`" in batchgen("retry", "tried.yaml", "clip-0").stderr
    assert "resume tried.yaml --simulate`" in batchgen("pause", "tried.yaml").stdout
    assert batchgen("resume", "tried.yaml").returncode == 0
    ended = batchgen("worker", "--json", **environment)
    steps = [event for event in check_events(ended.stdout) if event["event"] == "worker" and event["exit_code"] == 0]
    nexts = {event["batch"]: event["next"] or "" for event in steps if event["batch"]}
    assert {batch: "--simulate" in command for batch, command in nexts.items()} == {
        "real": False,
        "tried-simulated": True,
    }


def test_a_manifest_that_is_nowhere_is_named_and_no_run_of_it_is_suggested(batchgen: Command) -> None:
    for name in ("pause", "status", "set"):
        ended = batchgen(name, "nope.yaml")
        assert (ended.returncode, "nope.yaml: there is no such manifest" in ended.stderr) == (2, True)
        assert "batchgen run" not in ended.stderr


def test_a_manifest_that_another_table_may_have_is_named_with_some_of_those_that_are_here(
    table: Table, batchgen: Command
) -> None:
    table.sync("mona")
    for name in ("spring.yaml", "summer.yaml"):
        write_manifest(table.folder / name, 1)
    missing, misspelt = (batchgen("pause", name).stderr for name in ("summer.yaml", "sprung.yaml"))
    assert "which has" in missing and "spring.yaml; a run puts it there, or name its table with --db" in missing
    assert misspelt.strip().endswith("spring.yaml")


def test_what_is_set_is_shown_with_where_it_comes_from(table: Table, batchgen: Command) -> None:
    table.sync("mona")
    limits = Limits(downloads=2, max_cost=Decimal("80.10"), on_unconfirmed="resubmit")
    enrolled = EnrolledManifest(limits, frozenset({"old"}))
    table.change(settings.record_manifest, table.batch_id, str(enrolled), table.now, ANNA)
    assert steering.read_enrolled(table.database.read_now(read_steering, table.batch_id)) == enrolled
    assert (
        "no run is at work: the next one, or a worker, acts on it"
        in batchgen("set", "spring.yaml", "max_cost=90").stderr
    )
    shown = batchgen("set", "spring.yaml").stdout.splitlines()
    assert shown[0] == "in_flight: 10 (the default)"
    assert "downloads: 2 (from the manifest)" in shown
    (cap,) = [line for line in shown if line.startswith("max_cost: 90 USD (set at ")]
    assert cap.endswith("; the manifest has 80.1 USD)")
    shown = batchgen("set", "spring.yaml", "in_flight=20", "submits_per_minute=60").stdout.splitlines()
    assert [line.partition("; ")[2] for line in shown] == ["the default is 10)", "the default is 30)"]
    batchgen("set", "spring.yaml", "in_flight=", "submits_per_minute=")

    assert "what is in flight goes on. `batchgen resume spring.yaml` ends" in batchgen("pause", "spring.yaml").stdout
    assert batchgen("pause", "spring.yaml").stdout.startswith("paused already, at ")
    status = check_events(batchgen("status", "spring.yaml", "--json").stdout)[-1]
    assert status["paused_at"]
    assert [(value["name"], value["value"]) for value in status["settings"]] == [("max_cost", "90")]
    (wait,) = status["waits"]
    assert wait["for"].startswith("`batchgen resume` (paused at ")
    assert wait["next"].startswith("batchgen resume ")
    assert "`batchgen resume spring.yaml` ends the pause" in batchgen("status", "spring.yaml").stdout
    event = check_events(batchgen("resume", "spring.yaml", "--json").stdout)[-1]
    assert (event["event"], event["paused_at"]) == ("settings", None)
    assert "not paused" in batchgen("resume", "spring.yaml").stdout


def test_a_setting_goes_before_an_option_and_a_manifest_until_it_is_unset(table: Table) -> None:
    table.sync("mona")
    limits = Limits(in_flight=7, max_cost=Decimal(5))

    def in_force() -> tuple[object, Decimal | None]:
        read = table.database.read_now(read_steering, table.batch_id)
        return read.limits(limits).in_flight, read.limits(limits).max_cost

    assert in_force() == (7, Decimal(5))
    set_values(table, in_flight=AUTO, max_cost=Decimal("7.123456789"))
    assert in_force() == ("auto", Decimal("7.123456789"))
    set_values(table, in_flight=None, max_cost=None)
    assert in_force() == (7, Decimal(5))
    history = table.database.read_now(settings.since, table.batch_id, 0)
    assert [(row.name, row.value) for row in history] == [
        ("in_flight", "auto"), ("max_cost", "7.123456789"), ("in_flight", None), ("max_cost", None)
    ]  # fmt: skip


def test_a_setting_that_somebody_else_has_written_is_refused_with_its_reason(table: Table) -> None:
    table.sync("mona")
    table.change(settings.record, table.batch_id, SettingName.MAX_COST, "plenty", table.now, ANNA)
    with pytest.raises(UsageError, match="`max_cost` must be an amount"):
        table.database.read_now(read_steering, table.batch_id)


@dataclass
class PoorService(ScriptedService):
    """Has no credits until the account is topped up."""

    balances: Sequence[Decimal | None] = ()
    questions: int = 0
    fetches: Sequence[FetchOutcome] = field(default_factory=lambda: (Working("queued"),))

    async def balance(self) -> Decimal | None:
        self.questions += 1
        return self.balances[min(self.questions, len(self.balances)) - 1]


OUT_OF_CREDITS = Blocked(Trouble.CREDITS, "insufficient balance", 403)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("balances", "submits"),
    [
        ((Decimal(0), Decimal("0.1"), Decimal("0.1"), Decimal(9)), 2),
        ((None,), 2),  # a service that says no balance is tried with one request
    ],
)
async def test_a_run_that_waits_for_credits_goes_on_once_the_balance_is_enough(
    balances: Sequence[Decimal | None], submits: int, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounting, "TOP_UP_FIRST_SECONDS", 0.0)
    answers: Sequence[SubmitOutcome] = (OUT_OF_CREDITS, Accepted("g-1", None, 201, {"id": "g-1"}))
    service = PoorService(submits=answers, balances=balances)
    synced = table.sync("mona")
    run_spec = RunSpec(
        batch=table.batch,
        jobs=1,
        synced=synced,
        folder=table.folder,
        limits=FAST,
        models=[MODEL],
        waits_for_credits=True,
    )
    runner = Runner(table.database, service, run_spec)
    running = asyncio.create_task(runner.run())
    while table.states() != {"mona": "generating"}:
        assert not running.done(), running.result()
        await asyncio.sleep(0.01)
    runner.stop(signal.SIGINT)
    assert (await running).exit_code is ExitCode.INTERRUPTED
    assert len(service.submitted) == submits
    assert runner.context.blocked is None


async def test_a_cap_that_is_set_while_the_balance_is_asked_for_is_kept(table: Table, clock: Clock) -> None:
    class Steered(PoorService):
        async def balance(self) -> Decimal | None:
            set_values(table, max_cost=Decimal("0.1"))
            return Decimal(9)

    table.sync(spec("mona", duration=5))
    service = Steered(submits=(OUT_OF_CREDITS, Accepted("g-1")))
    context = context_of(table, service, FAST)
    change_spec(context, waits_for_credits=True)
    context.prices = KNOWN
    upkeep = Upkeep(context, wake=lambda: None, resize=lambda _downloads: None)
    scheduler = Scheduler(context, AT_ONCE)
    await turn(scheduler)
    assert context.credit_wait.refusal
    clock.tick(60)
    await upkeep.ask_credits()
    assert not context.credit_wait.refusal, "it was asked by the settings of a moment ago"
    await turn(scheduler)
    assert len(service.submitted) == 1, "the claim reads the cap itself"
    assert table.states() == {"mona": "pending"}


def test_the_balance_must_be_enough_for_the_next_job_and_is_asked_for_at_growing_intervals() -> None:
    wait = accounting.CreditWait()
    wait.refused(OUT_OF_CREDITS, NOON)
    assert not wait.is_due(NOON + 29 * SECOND)
    intervals, now = [], NOON
    for _ in range(6):
        assert wait.next_at
        intervals.append((wait.next_at - now).total_seconds())
        now = wait.next_at
        assert not wait.answered(Decimal("1.46"), Decimal("1.47"), now)
    assert intervals == [30, 60, 120, 240, 300, 300]
    assert str(wait) == "the account has no credits left (it has 1.46 USD, the next job costs 1.47)"
    assert wait.answered(Decimal("1.47"), Decimal("1.47"), now)
    # A limit of the plan refuses although the balance is enough: the intervals grow all the same.
    wait.refused(OUT_OF_CREDITS, now)
    assert wait.next_at == now + 60 * SECOND
    wait.accepted()
    assert wait.refusals == 0


@pytest.mark.slow
def test_cancel_and_retry_are_heeded_by_a_run_at_work(
    tmp_path: Path, simulate: Simulate, launch: Launch, batchgen: Command
) -> None:
    simulator = simulate(faults={"create": {"reject_400": {"count": 1}}}, speed=1)
    database = tmp_path / "batchgen.db"
    write_manifest(tmp_path / "m.yaml", 3, limits={"submits_per_minute": 60_000, "in_flight": 5})
    running = launch("run", "m.yaml", "--json", **simulator.environment)
    until(lambda: states(database) == {"failed": 1, "generating": 2})
    failed, first, _ = [row["key"] for row in rows(database, "SELECT key FROM jobs ORDER BY state")]
    cancelled = batchgen("cancel", "m.yaml", first, **simulator.environment)
    assert "1 run at work acts on it within 2 seconds" in cancelled.stderr
    assert "the service" in cancelled.stdout
    retried = batchgen("retry", "m.yaml", failed, **simulator.environment)
    assert "1 run at work acts on it within 2 seconds" in retried.stderr
    until(lambda: states(database) == {"cancelled": 1, "generating": 2})
    running.signal(signal.SIGTERM)
    ended = running.end()
    assert ended.returncode == 143, ended.stderr
    steered = [event["name"] for event in check_events(ended.stdout) if event["event"] == "steered"]
    assert steered == ["cancelled", "retried"]
    assert len(Bill(simulator.ledger).accepted) == 3


@pytest.mark.slow
@pytest.mark.usefixtures("plugins")
@pytest.mark.parametrize("terms", [Cancelling.FREE, Cancelling.CHARGED])
def test_cancel_ends_the_generation_at_a_service_that_can(
    tmp_path: Path, launch: Launch, batchgen: Command, monkeypatch: pytest.MonkeyPatch, terms: Cancelling
) -> None:
    """It costs nothing where the service says so; where a cancel is charged, what was estimated stays reserved."""
    service = importlib.import_module("queueworks").Queueworks
    monkeypatch.setattr(service, "features", replace(service.features, cancel=terms))
    database = tmp_path / "batchgen.db"
    with queueworks(tmp_path) as served:
        account = {"QUEUEWORKS_URL": served.base_url, "QUEUEWORKS_KEY": "any"}
        jobs = [{"id": "one", "model": "shortfilm", "prompt": "One."}]
        write_manifest(tmp_path / "m.yaml", jobs, service="queueworks", defaults={})
        running = launch("run", "m.yaml", **account)
        until(lambda: states(database) == {"generating": 1})
        running.signal(signal.SIGKILL)  # before its second poll, at which this service calls everything finished
        running.end()
        cancelled = batchgen("cancel", "m.yaml", "one", "--json", **account)
    (event,) = check_events(cancelled.stdout)
    assert event["jobs"] == {"cancelled": ["one"], "ended_at_service": ["one"]}
    assert "what the service has ended is a new generation, which is paid for" in event["hint"]
    (attempt,) = rows(database, "SELECT finished_at IS NOT NULL AS ended, cost_usd, charge_source FROM attempts")
    cost = ("0", "answer") if terms is Cancelling.FREE else (None, None)
    assert tuple(attempt.values()) == (1, *cost)
