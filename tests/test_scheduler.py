"""The scheduler: intent before money, within the limits, and what each outcome does to job, limits and run."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from freezegun.api import FrozenDateTimeFactory as Clock
from sqlalchemy import Connection

from batchgen.clock import utcnow
from batchgen.jobs import ErrorClass, Outcome, State
from batchgen.jobtable import leases, reconciliation
from batchgen.jobtable.schema import limits as limits_table
from batchgen.limits.rate import TOLERANCE
from batchgen.manifest.limits import Limits
from batchgen.reconciler import Reconciler
from batchgen.scheduler import FAILURES_TO_PROBE, FIRST_LOOK_UP, Scheduler
from batchgen.services.base import Adoption, Features, Submission
from batchgen.services.outcomes import Accepted, Blocked, NotSent, Rejected, SubmitOutcome, Throttled, Trouble, Unknown
from batchgen.services.send_time import is_too_late
from batchgen.stage import LEASE
from tests.conftest import NOON
from tests.hot_queries import Statements, listening
from tests.scripted import ScriptedService, change_spec, context_of, settle, turn
from tests.table import MODEL, RUN, Table, spec
from tests.test_http_failures import no_more_descriptors

FAST = Limits(submits_per_minute=60_000, in_flight=100)
SECONDS = timedelta(seconds=1)

OUTCOMES: list[tuple[SubmitOutcome, State, Outcome, dict[str, Any]]] = [
    # outcome of the create, state of the job, outcome of its attempt, other columns of the job
    (
        Accepted("g:1/x", Decimal("0.28"), 201),
        State.GENERATING,
        Outcome.ACCEPTED,
        {"generation_id": "g:1/x", "cost_usd": Decimal("0.28"), "charge_source": "answer", "answered_at": NOON},
    ),
    (Rejected("400: no", 400), State.FAILED, Outcome.REJECTED, {"error": "400: no", "error_class": "parameter"}),
    (Unknown("cut"), State.UNCONFIRMED, Outcome.UNCONFIRMED, {"next_at": NOON + FIRST_LOOK_UP, "error": "cut"}),
    (NotSent("no route"), State.PENDING, Outcome.NOT_SENT, {"attempt_id": None}),
    (Throttled("429: slow"), State.PENDING, Outcome.THROTTLED, {"attempt_id": None}),
    (Blocked(Trouble.AUTH, "401: key", 401), State.PENDING, Outcome.BLOCKED, {"attempt_id": None, "error": None}),
    (Blocked(Trouble.CREDITS, "403: empty", 403), State.PENDING, Outcome.BLOCKED, {"attempt_id": None}),
]


async def test_a_job_that_is_cancelled_while_its_files_are_read_was_certainly_not_sent(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    never = asyncio.Event()

    async def read_for_ever(*_arguments: object) -> Any:
        await never.wait()

    monkeypatch.setattr("batchgen.scheduler.read_files", read_for_ever)
    table.sync("mona")
    scheduler = Scheduler(context_of(table, ScriptedService(), FAST), 1)
    await scheduler.tick(NOON)
    (task,) = scheduler.tasks
    await asyncio.sleep(0)  # it begins to read
    scheduler.cancel()
    await asyncio.wait([task])
    assert (table.row().state, table.row().attempt_id) == ("pending", None)
    assert [attempt.outcome for attempt in table.attempts()] == ["not_sent"]


def pause_of(table: Table) -> Any:
    return table.database.read_now(lambda connection: connection.execute(limits_table.select()).one())


@pytest.mark.parametrize(("outcome", "state", "attempt", "more"), OUTCOMES, ids=lambda value: type(value).__name__)
async def test_an_outcome_is_stored(
    table: Table, clock: Clock, outcome: SubmitOutcome, state: State, attempt: Outcome, more: dict[str, Any]
) -> None:
    table.sync("mona")
    await turn(Scheduler(context_of(table, ScriptedService([outcome])), 8))
    row = table.row()
    assert row.state == state
    both = {**table.attempt()._mapping, **row._mapping}
    assert {name: both[name] for name in more} == more
    assert [one.outcome for one in table.attempts()] == [attempt]


async def test_moderation_says_which_input_it_is_about_and_concerns_no_other_job(table: Table, clock: Clock) -> None:
    table.sync("mona", "lisa")
    refusal = Rejected("breaks our rules", 422, ErrorClass.MODERATION, "prompt")
    context = context_of(table, ScriptedService([refusal, Accepted("g-2")]), FAST)
    await turn(Scheduler(context, 8))
    row = table.row("mona")
    assert (row.state, row.error_class) == ("failed", ErrorClass.MODERATION)
    assert row.error == "prompt: refused by moderation: breaks our rules"
    assert table.states()["lisa"] == "generating"
    assert (context.blocked, context.wait_reason) == (None, "")


async def test_a_generation_that_belongs_to_another_request_is_not_taken(table: Table, clock: Clock) -> None:
    """A service that answers twice with one id: nobody knows what became of the second request."""
    table.sync("mona", "lisa")
    scheduler = Scheduler(context_of(table, ScriptedService([Accepted("g-1"), Accepted("g-1")]), FAST), 8)
    await turn(scheduler)
    assert sorted(table.states().values()) == ["generating", "unconfirmed"]
    (second,) = (row for row in table.rows() if row.state == "unconfirmed")
    assert "g-1, which belongs to another request" in second.error
    attempts = {attempt.job_id: attempt for attempt in table.attempts()}
    assert (attempts[second.id].outcome, attempts[second.id].generation_id) == (Outcome.UNCONFIRMED, None)
    clock.tick(60)
    table.now += timedelta(seconds=60)
    await turn(scheduler)
    assert len(table.attempts()) == 2, "it is not sent again"


@dataclass
class PreparingService(ScriptedService):
    """It uploads something before it asks for a generation."""

    prepared: Mapping[str, Any] | Rejected | NotSent | Throttled | Blocked = field(default_factory=dict)
    before_upload: Callable[[], object] = bool

    async def prepare(self, submission: Submission) -> Mapping[str, Any] | Rejected | NotSent | Throttled | Blocked:
        self.before_upload()
        return self.prepared


UPLOADS = Features(Adoption.EXACT_BODY, prepares=True)


async def test_what_a_service_prepares_is_durable_before_the_paid_request(table: Table, clock: Clock) -> None:
    table.sync("mona")
    service = PreparingService(features=UPLOADS, prepared={"upload": "u-1"})
    during: list[str] = []
    service.before = lambda: during.append(table.attempts()[0].handle)
    await turn(Scheduler(context_of(table, service), 8))
    assert during == ['{"upload": "u-1"}']
    assert service.submitted[0].handle == {"upload": "u-1"}
    assert json.loads(table.attempt().handle) == {"upload": "u-1", "id": "g-1"}


async def test_a_preparation_that_fails_sends_nothing_and_pays_nothing(table: Table, clock: Clock) -> None:
    table.sync("mona")
    service = PreparingService(features=UPLOADS, prepared=NotSent("no route"))
    await turn(Scheduler(context_of(table, service), 8))
    assert service.submitted == []
    assert table.states() == {"mona": "pending"}


async def test_a_create_is_sent_after_an_upload_that_takes_longer_than_a_lease_and_never_by_two_runs(
    table: Table, clock: Clock
) -> None:
    """The lease of a living run is renewed meanwhile. It begins anew with the stored handle, as the intent does."""
    table.sync("mona")
    service = PreparingService(features=UPLOADS, prepared={"upload": "u-1"})

    def upload() -> None:
        clock.tick(LEASE - SECONDS)
        table.change(leases.renew, RUN, utcnow(), utcnow() + LEASE)
        clock.tick(LEASE - SECONDS)

    def take_over() -> int:
        return table.change(leases.recover_expired, table.batch_id, utcnow())

    def on_wire() -> None:
        attempt = table.attempt()
        assert (attempt.intent_at, is_too_late(), take_over()) == (utcnow(), False, 0)
        assert attempt.deadline_at > utcnow(), "a lost request keeps its place in flight as long as any other"
        clock.tick(LEASE)
        assert not is_too_late()
        clock.tick(SECONDS)
        assert (is_too_late(), take_over()) == (True, 1), "another run has it, and this one sends no more"

    service.before_upload, service.before = upload, on_wire
    await turn(Scheduler(context_of(table, service), 8))
    assert len(service.submitted) == 1


async def test_a_job_that_was_taken_over_during_the_preparation_is_not_sent(table: Table, clock: Clock) -> None:
    table.sync("mona")
    service = PreparingService(features=UPLOADS, prepared={"upload": "u-1"})
    service.before_upload = table.bury  # the run was held up, and counts as dead
    await turn(Scheduler(context_of(table, service), 8))
    assert service.submitted == []
    assert table.attempt().outcome == Outcome.NOT_SENT
    assert table.states() == {"mona": "pending"}


@pytest.mark.parametrize("how", ["refuted", "refused", "retried", "resubmitted"])
async def test_a_job_that_left_the_manifest_after_it_was_sent_is_not_sent_again(
    how: str, table: Table, clock: Clock
) -> None:
    table.sync("mona", "lisa")
    (job,) = table.intend(capacity=1)
    synced = table.sync("lisa")
    if how == "refused":
        table.throttle(job)
    elif how == "retried":
        table.reject(job)
        table.retry("mona")
    else:
        table.lose(job)
        (job,) = table.unconfirmed()
        assert table.refute(job) if how == "refuted" else table.change(reconciliation.resubmitted, job, "", table.now)
    service = ScriptedService()
    context = context_of(table, service)
    context.orphans = synced.orphans
    await turn(Scheduler(context, 8))
    assert (len(service.submitted), table.states()) == (1, {"mona": "cancelled", "lisa": "generating"})
    back = table.sync(spec("mona", prompt="Another one."), "lisa")
    assert (back.edited, table.row().state) == (1, "pending"), "it comes back with what is asked for"


async def test_the_intent_is_durable_before_the_request_leaves(table: Table, clock: Clock) -> None:
    table.sync("mona")
    service = ScriptedService()
    during: list[tuple[str, str]] = []
    service.before = lambda: during.extend(
        (row.state, one.outcome) for row, one in zip(table.rows(), table.attempts(), strict=True)
    )
    await turn(Scheduler(context_of(table, service), 8))
    assert during == [("submitting", "sending")]
    assert service.submitted[0].client_request_id == table.attempts()[0].client_request_id


PORTRAIT = b"\x89PNG\r\n\x1a\n a portrait"


async def test_a_local_image_is_sent_and_its_digest_is_stored(table: Table, clock: Clock) -> None:
    (table.folder / "mona.png").write_bytes(PORTRAIT)
    table.sync(spec(image="mona.png", input_pointers=("/image_url",)))
    service = ScriptedService()
    await turn(Scheduler(context_of(table, service), 8))
    sent = json.loads(service.submitted[0].body())["image_url"]
    assert sent == "data:image/png;base64," + base64.b64encode(PORTRAIT).decode()
    assert json.loads(table.attempt().input_digests)["mona.png"]["size"] == len(PORTRAIT)
    assert "base64" not in table.row().request


async def test_a_missing_image_fails_its_job_and_sends_nothing(table: Table, clock: Clock) -> None:
    table.sync(spec(image="gone.png", input_pointers=("/image_url",)), "lisa")
    service = ScriptedService()
    await turn(Scheduler(context_of(table, service, FAST), 8))
    row = table.row()
    assert (row.state, row.error_class) == ("failed", ErrorClass.INPUT_FILE)
    assert "gone.png" in row.error
    assert len(service.submitted) == 1
    assert table.states()["lisa"] == "generating"


@pytest.mark.parametrize("is_worker", [False, True])
async def test_a_job_waits_whose_image_cannot_be_opened_for_want_of_descriptors(
    table: Table, clock: Clock, is_worker: bool
) -> None:
    (table.folder / "mona.png").write_bytes(PORTRAIT)
    table.sync(spec(image="mona.png", input_pointers=("/image_url",)))
    service = ScriptedService()
    context = context_of(table, service, FAST)
    change_spec(context, is_worker=is_worker)
    context.times.p99(MODEL, 0)  # reads its data now, while it can
    scheduler = Scheduler(context, 8)
    with no_more_descriptors():
        await turn(scheduler)
    assert (table.row().state, table.row().error, table.attempt().outcome) == ("pending", None, Outcome.NOT_SENT)
    assert "ulimit -n" in context.wait_reason
    assert context.contact.silent_since is None, "the service is not to blame"
    await turn(scheduler)
    assert not service.submitted, "not at once"
    clock.tick(60)
    await turn(scheduler)
    assert table.row().state == "generating"


# --- within the limits -----------------------------------------------------------------------------------------------


async def test_no_more_are_in_flight_than_allowed(table: Table, clock: Clock) -> None:
    table.sync(*(f"j{number}" for number in range(9)))
    service = ScriptedService()
    scheduler = Scheduler(context_of(table, service, Limits(submits_per_minute=6_000, in_flight=3)), 8)
    for _ in range(3):
        await turn(scheduler)
        clock.tick(1)
    assert len(service.submitted) == 3
    table.now, table.origin = table.row("j0").next_at, service.origin
    (job,) = table.claim(State.GENERATING, capacity=1)
    table.finish(job)
    await turn(scheduler)
    assert len(service.submitted) == 4


async def test_the_limits_are_not_looked_at_where_nothing_is_pending(table: Table, clock: Clock) -> None:
    table.sync("mona")
    table.accept(table.intend()[0])
    scheduler = Scheduler(context_of(table, ScriptedService(), FAST), 8)
    scheduler.context.wait_to_submit("the price list has not come yet")

    def claim(connection: Connection) -> Statements:
        with listening(connection) as executed:
            assert scheduler.claim(connection, NOON, 8) == ([], None)
        return executed

    statements = [statement for statement, _ in table.database.write_now(claim)]
    assert not [statement for statement in statements if "FROM limits" in statement or "FROM attempts" in statement]
    assert not scheduler.context.wait_reason


async def test_the_generations_of_another_batch_count_as_well(table: Table, clock: Clock) -> None:
    table.sync("mona")
    table.accept(table.intend()[0])
    table.sync("lisa", batch=replace(table.batch, name="autumn", manifest=table.folder / "autumn.yaml"))
    service = ScriptedService()
    await turn(Scheduler(context_of(table, service, Limits(submits_per_minute=6_000, in_flight=1)), 8))
    assert service.submitted == []


async def test_an_unconfirmed_attempt_counts_as_in_flight_for_as_long_as_a_generation_may_run(
    table: Table, clock: Clock
) -> None:
    """Creates answered 500 and absent from the log: the reconciler waits for long after their places are free again."""
    table.sync(*(f"j{number}" for number in range(6)))
    service = ScriptedService([Unknown("500: oops", 500)] * 2 + [Accepted("g-3"), Accepted("g-4")])
    context = context_of(table, service, replace(FAST, in_flight=2, unconfirmed_minutes=10_000))
    scheduler, reconciler = Scheduler(context, 8), Reconciler(context, 1)
    await turn(scheduler)
    assert list(table.states().values()).count("unconfirmed") == 2
    longest = context.times.p99(MODEL, 0.0)
    clock.tick(longest - SECONDS)
    await turn(reconciler)
    await turn(scheduler)
    assert len(service.submitted) == 2, "they may still be running"
    clock.tick(1)
    await turn(reconciler)
    await turn(scheduler)
    assert len(service.submitted) == 4
    assert list(table.states().values()).count("unconfirmed") == 2, "and they are not given up"
    assert len({attempt.job_id for attempt in table.attempts()}) == 4, "nothing is sent twice"


async def test_an_attempt_of_a_run_that_died_counts_as_in_flight_no_longer(table: Table, clock: Clock) -> None:
    table.sync("a", "b")
    service = ScriptedService(gate=asyncio.Event())
    limits = replace(FAST, in_flight=1)
    dead = Scheduler(context_of(table, service, limits, "run-b"), 8)
    await dead.tick(NOON)
    table.bury("run-b")
    assert table.states() == {"a": "unconfirmed", "b": "pending"}
    other = ScriptedService([Accepted("g-other")])
    scheduler = Scheduler(context_of(table, other, limits), 8)
    await turn(scheduler)
    assert other.submitted == []
    clock.tick(scheduler.context.times.p99(MODEL, 0.0))
    await turn(scheduler)
    assert table.states() == {"a": "unconfirmed", "b": "generating"}
    assert service.gate
    service.gate.set()
    await settle(dead)
    assert table.states() == {"a": "generating", "b": "generating"}, "its answer is still taken"


async def test_no_more_requests_are_on_the_wire_than_a_stage_may_have_at_once(table: Table, clock: Clock) -> None:
    table.sync(*(f"j{number}" for number in range(9)))
    service = ScriptedService(gate=asyncio.Event())
    scheduler = Scheduler(context_of(table, service, FAST), 2)
    await scheduler.tick(NOON)
    assert await scheduler.tick(NOON) is None
    assert list(table.states().values()).count("submitting") == 2
    assert service.gate
    service.gate.set()
    await settle(scheduler)
    assert list(table.states().values()).count("generating") == 2


async def test_the_rate_decides_when_the_scheduler_ticks_again(table: Table, clock: Clock) -> None:
    table.sync("a", "b", "c")
    service = ScriptedService()
    scheduler = Scheduler(context_of(table, service, Limits(submits_per_minute=12)), 8)
    assert await turn(scheduler) == NOON + 5 * SECONDS - TOLERANCE
    assert await turn(scheduler) == NOON + 5 * SECONDS - TOLERANCE
    clock.tick(5)
    await turn(scheduler)
    clock.tick(5)
    await turn(scheduler)
    assert len(service.submitted) == 3
    assert await turn(scheduler) is None, "no job is pending"


async def test_a_run_that_is_stopping_sends_nothing(table: Table, clock: Clock) -> None:
    table.sync("mona")
    service = ScriptedService()
    scheduler = Scheduler(context_of(table, service), 8)
    await scheduler.finish()
    await turn(scheduler)
    assert service.submitted == []


# --- slowing down and stopping ---------------------------------------------------------------------------------------


async def test_a_429_pauses_all_runs_for_as_long_as_the_service_asks(table: Table, clock: Clock) -> None:
    table.sync("mona")
    service = ScriptedService([Throttled("429: slow", timedelta(seconds=40)), Accepted("g-1")])
    scheduler = Scheduler(context_of(table, service, FAST), 8)
    await turn(scheduler)
    assert pause_of(table).paused_until == NOON + 40 * SECONDS
    assert pause_of(table).reason == "the service asks to slow down (429: slow)"
    other = Scheduler(context_of(table, service, FAST, run="run-b"), 8)
    for paused in (scheduler, other):
        assert await turn(paused) == NOON + 40 * SECONDS
    assert len(service.submitted) == 1
    clock.tick(40)
    await turn(other)
    assert table.row().state == "generating"
    assert [attempt.outcome for attempt in table.attempts()] == [Outcome.THROTTLED, Outcome.ACCEPTED]
    assert pause_of(table).failures == 0


NOT_FOUND = Blocked(Trouble.ADDRESS, "404: not found", 404)


def by_model(service: ScriptedService, outcomes: dict[str, SubmitOutcome]) -> ScriptedService:
    """Let the service answer each create by its model."""
    submit = service.submit

    async def answer(submission: Submission) -> SubmitOutcome:
        outcome = await submit(submission)
        return outcomes.get(submission.model, outcome)

    service.submit = answer  # type: ignore[method-assign]
    return service


@pytest.mark.parametrize("first", ["missing", "there"])
async def test_a_model_that_the_service_does_not_have_fails_its_own_jobs_only(
    table: Table, clock: Clock, first: str
) -> None:
    models = {"missing": "no/such", "there": MODEL}
    order = [first, *(name for name in models if name != first)]
    table.sync(*(spec(f"{name}-{number}", model=models[name]) for name in order for number in range(2)))
    service = by_model(ScriptedService(), {"no/such": NOT_FOUND})
    context = context_of(table, service, FAST)
    scheduler = Scheduler(context, 1)
    for _ in range(8):
        await turn(scheduler)
    assert context.blocked is None
    assert table.states() == {
        "missing-0": "failed",
        "missing-1": "failed",
        "there-0": "generating",
        "there-1": "generating",
    }
    assert table.row("missing-0").error == "404: not found"


async def test_at_an_address_that_accepted_jobs_in_an_earlier_run_a_missing_model_fails(
    table: Table, clock: Clock
) -> None:
    table.origin = "http://127.0.0.1:9"
    table.bring(State.DONE, "earlier")
    table.add(spec("mona"))
    context = context_of(table, ScriptedService([NOT_FOUND]))
    await turn(Scheduler(context, 8))
    assert (table.states()["mona"], context.blocked) == ("failed", None)


@pytest.mark.parametrize("models", [[MODEL], [MODEL, "another", "a third"]], ids=len)
async def test_an_address_that_never_accepted_anything_is_not_the_service(
    table: Table, clock: Clock, models: list[str]
) -> None:
    table.sync(*(spec(f"job-{number}", model=models[number % len(models)]) for number in range(6)))
    context = context_of(table, ScriptedService([NOT_FOUND]), FAST)
    scheduler = Scheduler(context, 2)
    for _ in range(8):
        await turn(scheduler)
    assert context.blocked == NOT_FOUND
    assert set(table.states().values()) == {"pending"}


@pytest.mark.parametrize("trouble", [Trouble.AUTH, Trouble.CREDITS, Trouble.KEY])
async def test_a_blocked_account_stops_submits_and_fails_no_job(table: Table, clock: Clock, trouble: Trouble) -> None:
    table.sync("a", "b", "c")
    service = ScriptedService([Accepted("g-1"), Blocked(trouble, "no", 403)])
    context = context_of(table, service, FAST)
    scheduler = Scheduler(context, 2)
    await turn(scheduler)
    assert context.blocked == Blocked(trouble, "no", 403)
    assert scheduler.capacity == 0
    clock.tick(3600)
    assert await turn(scheduler) is None
    assert table.states() == {"a": "generating", "b": "pending", "c": "pending"}
    assert len(service.submitted) == 2


async def test_a_full_disk_stops_submits(table: Table, clock: Clock) -> None:
    table.sync("mona")
    service = ScriptedService()
    context = context_of(table, service)
    context.disk_fault = "no space"
    await turn(Scheduler(context, 8))
    assert service.submitted == []


@pytest.mark.parametrize("failure", [Unknown("500: oops", 500), NotSent("no route")], ids=["unknown", "not sent"])
async def test_a_service_that_fails_every_create_is_probed_with_one(
    table: Table, clock: Clock, failure: SubmitOutcome
) -> None:
    table.sync(*(f"j{number:02}" for number in range(20)))
    service = ScriptedService([failure])
    scheduler = Scheduler(context_of(table, service, FAST), 8)
    await turn(scheduler)
    assert scheduler.failures == 8 >= FAILURES_TO_PROBE
    sent = len(service.submitted)
    waits = []
    for _ in range(4):
        due = await turn(scheduler)
        assert due
        waits.append((due - NOON).total_seconds())
        assert len(service.submitted) == sent, "paused"
        clock.move_to(due)
        await turn(scheduler)
        sent += 1
        assert len(service.submitted) == sent, "one probe"
    assert waits == sorted(set(waits))
    service.submits = [Accepted("g-1")]
    due = await turn(scheduler)
    assert due
    clock.move_to(due)
    await turn(scheduler)
    assert scheduler.failures == 0
    await turn(scheduler)
    assert len(service.submitted) > sent + 2, "the circuit breaker is closed again"


async def test_a_probe_that_is_on_the_wire_is_the_only_one(table: Table, clock: Clock) -> None:
    table.sync("a", "b", "c")
    service = ScriptedService(gate=asyncio.Event())
    scheduler = Scheduler(context_of(table, service, FAST), 8)
    scheduler.failures = FAILURES_TO_PROBE
    await scheduler.tick(NOON)
    assert len(scheduler.tasks) == 1
    assert scheduler.capacity == 0
    assert service.gate
    service.gate.set()
    await settle(scheduler)


async def test_one_bad_job_does_not_stop_the_others(table: Table, clock: Clock) -> None:
    table.sync("a", "b", "c", "d", "e")
    service = ScriptedService([Rejected("400: no", 400)] * 4 + [Accepted("g-5")])
    scheduler = Scheduler(context_of(table, service, FAST), 8)
    await turn(scheduler)
    assert list(table.states().values()).count("failed") == 4
    assert list(table.states().values()).count("generating") == 1
    assert scheduler.failures == 0


async def test_a_machine_that_nothing_leaves_holds_up_no_other(table: Table, clock: Clock) -> None:
    table.sync("a", "b")
    here, there = ScriptedService([NotSent("too many open files")]), ScriptedService()
    cut_off = Scheduler(context_of(table, here, FAST), 1)
    await turn(cut_off)
    assert "too many open files" in cut_off.context.standstill, "it waits itself, and says why"
    await turn(Scheduler(context_of(table, there, FAST, "run-b"), 8))
    assert (len(here.submitted), len(there.submitted)) == (1, 2)


async def test_a_service_that_cannot_be_reached_is_not_one_that_refuses(table: Table, clock: Clock) -> None:
    table.sync("mona")
    context = context_of(table, ScriptedService([NotSent("no route"), Throttled("429")]), FAST)
    scheduler = Scheduler(context, 8)
    await turn(scheduler)
    assert (context.contact.silent_since, context.contact.has_answered, context.contact.reason) == (
        NOON,
        False,
        "no route",
    )
    clock.tick(60)
    await turn(scheduler)
    assert (context.contact.silent_since, context.contact.has_answered) == (None, True)


async def test_a_run_that_is_killed_before_it_has_planned_the_first_poll_leaves_that_to_others_soon(
    table: Table, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another run that is at work would else ask for the generation at its deadline, an hour later."""

    class Killed(BaseException):
        pass

    table.sync("mona")
    context = context_of(table, ScriptedService())

    def die(*_arguments: object) -> None:
        raise Killed

    monkeypatch.setattr(context.times, "next_poll_at", die)
    with pytest.raises(Killed):
        await turn(Scheduler(context, 8))
    assert table.row().state == "generating"
    assert NOON < table.row().next_at <= NOON + timedelta(minutes=1)
