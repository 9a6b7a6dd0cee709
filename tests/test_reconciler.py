"""The reconciler: adopt what the service remembers, wait while it may lag, then hold or send again, as ordered."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from freezegun.api import FrozenDateTimeFactory as Clock

from batchgen import clock as clock_module
from batchgen import stage
from batchgen.jobs import ChargeSource, ErrorClass, JobSpec, Outcome, State
from batchgen.jobtable import leases, submission
from batchgen.manifest.limits import Limits
from batchgen.reconciler import SAME_FAILURES, UNREAD_RETRIES, Reconciler
from batchgen.services import http
from batchgen.services.base import Adoption, Features, SentAttempt
from batchgen.services.matching import ONLY_FILES_DIFFER, PastRequest, match
from batchgen.services.outcomes import Absent, Adopted, Ambiguous, FindOutcome, Throttled, Trouble, Unavailable
from tests.conftest import NOON
from tests.scripted import ScriptedService, context_of, turn
from tests.table import HOUR, LEASE, MINUTE, RUN, SECOND, Table, spec

PATIENCE = 15 * MINUTE
HOLD, RESUBMIT = Limits(), Limits(on_unconfirmed="resubmit")
HELD, WAITING = "held", "waiting"
ABSENT, UNREAD = Absent(NOON), None
FAILED_THERE = Absent(NOON, "the service's log shows that it failed there")
SILENT = Unavailable("no route")


def adopted(generation_id: str = "g-1") -> Adopted:
    return Adopted(generation_id, NOON + SECOND, Decimal("0.28"), {"id": generation_id})


def name_of(table: Table, key: str) -> str:
    return str(table.attempt(key).client_request_id)


def outcome_of(table: Table, key: str = "mona") -> str:
    row = table.row(key)
    if row.state != State.UNCONFIRMED:
        return str(row.state)
    return HELD if row.next_at is None else WAITING


ROWS: list[tuple[str, FindOutcome | Unavailable | Throttled | None, Limits, timedelta, str]] = [
    # what the service says, the policy, how long ago the request was sent → how the job stands
    ("known", adopted(), HOLD, SECOND, State.GENERATING),
    ("known long after", adopted(), RESUBMIT, 9 * PATIENCE, State.GENERATING),
    ("failed there", FAILED_THERE, HOLD, SECOND, State.PENDING),
    ("not there yet", ABSENT, HOLD, PATIENCE - SECOND, WAITING),
    ("not there yet, to be resubmitted", ABSENT, RESUBMIT, PATIENCE - SECOND, WAITING),
    ("absent", ABSENT, HOLD, PATIENCE, HELD),
    ("absent, to be resubmitted", ABSENT, RESUBMIT, PATIENCE, State.PENDING),
    ("one of several", Ambiguous("two have this request"), RESUBMIT, SECOND, HELD),
    ("unread is not absent", UNREAD, HOLD, 9 * PATIENCE, WAITING),
    ("unread is not absent, whatever is ordered", UNREAD, RESUBMIT, 9 * PATIENCE, WAITING),
    ("silence is not absence", SILENT, RESUBMIT, 9 * PATIENCE, WAITING),
    ("a refusal is not absence", Unavailable("401", Trouble.AUTH, 401), RESUBMIT, 9 * PATIENCE, WAITING),
    ("slow down is not absence", Throttled("429"), RESUBMIT, 9 * PATIENCE, WAITING),
]


@pytest.mark.parametrize(("name", "finding", "limits", "age", "stands"), ROWS, ids=[name for name, *_ in ROWS])
async def test_what_the_service_says_decides(
    table: Table,
    clock: Clock,
    name: str,
    finding: FindOutcome | Unavailable | Throttled | None,
    limits: Limits,
    age: timedelta,
    stands: str,
) -> None:
    table.bring(State.UNCONFIRMED)
    service = ScriptedService(findings=[finding])
    clock.tick(age)
    await turn(Reconciler(context_of(table, service, limits), 1))
    assert outcome_of(table) == stands
    assert len(service.searched) == 1
    assert table.row().leased_by is None


@pytest.mark.parametrize(("finding", "stands"), [(FAILED_THERE, State.FAILED), (ABSENT, HELD)])
async def test_an_edited_job_that_was_kept_and_not_paid_for_is_not_bought_as_it_was(
    table: Table, clock: Clock, finding: FindOutcome, stands: str
) -> None:
    table.bring(State.UNCONFIRMED)
    edited = spec(prompt="She smiles.")
    synced = table.sync(edited, changed="keep")
    clock.tick(PATIENCE)
    context = context_of(table, ScriptedService(findings=[finding]), RESUBMIT)
    context.edited = synced.edited_after
    await turn(Reconciler(context, 1))
    assert outcome_of(table) == stands
    if stands == State.FAILED:
        assert "a run without --changed keep sends that" in table.row().error
        assert table.sync(edited).edited == 1
        assert table.states() == {"mona": "pending"}, "as the manifest reads now, without a question"


@pytest.mark.parametrize(
    ("has_ended", "age", "stands"),
    [
        (True, 2 * MINUTE, State.PENDING),
        (False, leases.ON_WIRE - SECOND, WAITING),
        (False, leases.ON_WIRE, State.PENDING),
    ],
)
async def test_absence_says_nothing_while_a_run_that_is_cut_off_may_still_send_the_request(
    table: Table, clock: Clock, has_ended: bool, age: timedelta, stands: str
) -> None:
    table.bring(State.SUBMITTING)
    table.change(leases.recover_dead, [RUN] if has_ended else [], table.now, [] if has_ended else [RUN])
    impatient = Limits(on_unconfirmed="resubmit", unconfirmed_minutes=1)
    clock.tick(age)
    await turn(Reconciler(context_of(table, ScriptedService(findings=[ABSENT]), impatient), 1))
    assert outcome_of(table) == stands


def test_a_request_is_on_the_wire_for_less_than_is_waited_for() -> None:
    """It leaves within a lease of its intent, or not at all, and takes less than another lease."""
    assert timedelta(seconds=http.SUBMIT_SECONDS) < stage.LEASE <= leases.ON_WIRE / 2


async def test_what_is_held_says_why(table: Table, clock: Clock) -> None:
    table.bring(State.UNCONFIRMED)
    service = ScriptedService(findings=[Ambiguous("two have this request")])
    await turn(Reconciler(context_of(table, service), 1))
    assert table.row().error == "two have this request"


async def test_a_service_that_never_answers_leaves_it_to_a_person_whatever_is_ordered(
    table: Table, clock: Clock
) -> None:
    table.bring(State.UNCONFIRMED)
    reconciler = Reconciler(context_of(table, ScriptedService(findings=[SILENT]), RESUBMIT), 1)
    clock.tick(9 * PATIENCE)
    for _ in range(UNREAD_RETRIES + 1):
        assert outcome_of(table) == WAITING
        await turn(reconciler)
        clock.tick(HOUR)
    assert outcome_of(table) == HELD


async def test_an_adopted_job_goes_on_as_if_its_answer_had_come(table: Table, clock: Clock) -> None:
    table.bring(State.UNCONFIRMED)
    service = ScriptedService(findings=[adopted("g:1/x")])
    clock.tick(60)
    await turn(Reconciler(context_of(table, service), 1))
    row, (attempt,) = table.row(), table.attempts()
    assert (row.attempt_id, row.next_at, row.error) == (attempt.id, NOON + MINUTE, None)
    assert (attempt.outcome, attempt.generation_id, attempt.handle) == (Outcome.ACCEPTED, "g:1/x", '{"id": "g:1/x"}')
    assert (attempt.answered_at, attempt.deadline_at) == (NOON + SECOND, NOON + 61 * MINUTE)
    assert (attempt.cost_usd, attempt.charge_source) == (Decimal("0.28"), ChargeSource.LOG)
    assert table.events()[-1].detail == "adopted g:1/x"


async def test_what_is_sent_again_is_another_attempt_and_the_first_is_kept(table: Table, clock: Clock) -> None:
    table.bring(State.UNCONFIRMED)
    clock.tick(PATIENCE)
    await turn(Reconciler(context_of(table, ScriptedService(), RESUBMIT), 1))
    assert [attempt.outcome for attempt in table.attempts()] == [Outcome.UNCONFIRMED], "it may be charged yet"
    assert "sent again as ordered" in table.events()[-1].detail
    table.intend()
    assert [attempt.outcome for attempt in table.attempts()] == [Outcome.UNCONFIRMED, Outcome.SENDING]


async def test_a_job_that_alone_fails_there_time_and_again_failed_and_cost_nothing(table: Table, clock: Clock) -> None:
    table.sync("mona", "lisa")
    (mona,) = table.intend(capacity=1)
    table.lose(mona)
    table.now += SECOND
    (lisa,) = table.intend()
    table.accept(lisa)
    for _ in range(SAME_FAILURES):
        clock.tick(MINUTE)
        await turn(Reconciler(context_of(table, ScriptedService(findings=[FAILED_THERE])), 1))
        for job in table.intend():
            table.lose(job)
    assert (outcome_of(table), table.row().error_class) == (State.FAILED, ErrorClass.INTERNAL)
    assert "failed 3 times at the service" in table.row().error
    ledger = [one.outcome for one in table.attempts() if one.job_id == table.row().id]
    assert ledger == [Outcome.ABSENT] * SAME_FAILURES, "no attempt is unconfirmed"


async def test_a_service_without_a_memory_holds_at_once(table: Table, clock: Clock) -> None:
    table.bring(State.UNCONFIRMED)
    service = ScriptedService(features=Features(Adoption.NONE))
    await turn(Reconciler(context_of(table, service, RESUBMIT), 1))
    assert outcome_of(table) == HELD
    assert service.searched == []


async def test_one_search_serves_many_attempts(table: Table, clock: Clock) -> None:
    for number in range(5):
        table.bring(State.UNCONFIRMED, f"j{number}")
        table.now += MINUTE
    clock.move_to(table.now)
    service = ScriptedService(findings=[{name_of(table, f"j{n}"): adopted(f"g-{n}") for n in (0, 2, 4)}])
    await turn(Reconciler(context_of(table, service), 1))
    ((*searched,),) = service.searched
    assert [attempt.intent_at for attempt in searched] == [NOON + n * MINUTE for n in range(5)]
    assert [attempt.generation_id for attempt in table.attempts()] == ["g-0", None, "g-2", None, "g-4"]


COMPARES_BODIES = Features(Adoption.EXACT_BODY)


class Bodies(ScriptedService):
    """A service that remembers the bodies of requests."""

    past: Sequence[PastRequest] = ()

    async def find(self, attempts: Sequence[SentAttempt]) -> Mapping[str, FindOutcome]:
        self.searched.append(attempts)
        return match(attempts, self.past, clock_module.utcnow())


def remembered(generation_id: str, job: JobSpec, seconds: int = 1, **changes: str) -> PastRequest:
    """A request as the service remembers it."""
    body = {**json.loads(job.request), **changes}
    return PastRequest(generation_id, NOON + timedelta(seconds=seconds), body, handle={"id": generation_id})


async def test_a_service_that_compares_bodies_is_shown_who_owns_generations_and_what_else_is_lost(
    table: Table, clock: Clock
) -> None:
    """Without them it would take a generation of theirs for the lost one."""
    table.sync("mona", "twin", "lost too", spec("other", prompt="Something else."))
    mona, twin, lost_too, other = table.intend()
    table.accept(twin, "g-twin")
    table.accept(other, "g-other")
    table.lose(mona)
    clock.tick(100)  # the other one is searched for later
    service = ScriptedService(features=COMPARES_BODIES)
    await turn(Reconciler(context_of(table, service), 1))
    ((*searched,),) = service.searched
    assert {(attempt.client_request_id, attempt.generation_id) for attempt in searched} == {
        (mona.attempt.client_request_id, None),
        (lost_too.attempt.client_request_id, None),
        (twin.attempt.client_request_id, "g-twin"),
        (other.attempt.client_request_id, "g-other"),
    }


async def test_a_lost_request_that_differs_from_another_in_its_file_alone_takes_no_generation(
    table: Table, clock: Clock
) -> None:
    jobs = [spec(key, image=f"{key}.jpg", input_pointers=("/image_url",)) for key in ("a", "b")]
    table.sync(*jobs)
    for intent in table.intend():
        table.lose(intent)
    service = Bodies(features=COMPARES_BODIES)
    service.past = [remembered("g-of-b", jobs[1], 2, image_url="data:image/jpeg;base64,…")]
    clock.tick(5)
    await turn(Reconciler(context_of(table, service), 1))
    assert [(row.state, row.next_at) for row in table.rows()] == [("unconfirmed", None)] * 2, "held for a person"
    assert {row.error for row in table.rows()} == {ONLY_FILES_DIFFER}


@pytest.mark.parametrize("is_listed", [True, False], ids=["its generation is listed", "it is not listed yet"])
async def test_a_lost_take_is_not_taken_for_the_take_before(table: Table, clock: Clock, is_listed: bool) -> None:
    first = spec("a-1")
    table.sync(first, replace(spec("a-2"), request=first.request, take=2))
    one, two = table.intend()
    table.accept(one, "g-1")
    table.lose(two)
    service = Bodies(features=COMPARES_BODIES)
    service.past = [remembered("g-1", first), *([remembered("g-2", first, 2)] if is_listed else [])]
    clock.tick(5)
    await turn(Reconciler(context_of(table, service), 1))
    expected = ("generating", "g-2") if is_listed else ("unconfirmed", None)
    assert (table.row("a-2").state, table.attempt("a-2").generation_id) == expected
    assert is_listed or table.row("a-2").next_at is not None, "it is searched for again"


async def test_a_generation_of_another_account_is_not_adopted_by_its_body(table: Table, clock: Clock) -> None:
    table.sync("mona")
    (mona,) = table.intend()
    table.lose(mona)
    service = Bodies(features=COMPARES_BODIES)
    service.account = "another"
    service.past = [remembered("g-theirs", spec())]
    clock.tick(5)
    await turn(Reconciler(context_of(table, service), 1))
    assert (table.row().state, table.row().next_at, table.attempt().generation_id) == ("unconfirmed", None, None)
    assert "another key" in table.row().error


async def test_the_pauses_between_two_searches_grow(table: Table, clock: Clock) -> None:
    table.bring(State.UNCONFIRMED)
    reconciler = Reconciler(context_of(table, ScriptedService(findings=[SILENT])), 1)
    waits = []
    at = NOON
    for _ in range(8):
        await turn(reconciler)
        waits.append((table.row().next_at - at).total_seconds())
        at = table.row().next_at
        clock.move_to(at)
    assert waits == [3, 6, 12, 24, 48, 96, 120, 120]


async def test_a_machine_that_slept_over_the_answer_does_not_take_it_for_patience(table: Table, clock: Clock) -> None:
    """What the service did not know a second after the request, it may know by now."""
    table.bring(State.UNCONFIRMED)
    clock.tick(1)
    service = ScriptedService(findings=[ABSENT])
    service.before = lambda: clock.tick(8 * 3600)
    await turn(Reconciler(context_of(table, service, RESUBMIT), 1))
    assert outcome_of(table) == WAITING


async def test_an_expired_lease_of_a_run_elsewhere_leaves_an_unconfirmed_attempt(table: Table, clock: Clock) -> None:
    intent = table.bring(State.SUBMITTING, run_id="elsewhere")
    service = ScriptedService(findings=[adopted()])
    reconciler = Reconciler(context_of(table, service), 1)
    assert await turn(reconciler) == NOON + LEASE
    assert service.searched == []
    clock.tick(LEASE)
    await turn(reconciler)
    assert (table.row().state, table.attempt().generation_id) == ("generating", "g-1")
    table.now += LEASE
    assert not table.accept(intent, "g-1"), "its answer, late"


async def test_an_answer_that_comes_during_the_search_wins(table: Table, clock: Clock) -> None:
    intent = table.bring(State.UNCONFIRMED)
    clock.tick(PATIENCE)
    service = ScriptedService(findings=[ABSENT])
    service.before = lambda: table.accept(intent, "g-late")
    await turn(Reconciler(context_of(table, service, RESUBMIT), 1))
    assert (table.row().state, table.attempt().generation_id) == ("generating", "g-late")
    assert [attempt.outcome for attempt in table.attempts()] == [Outcome.ACCEPTED]


async def test_what_is_held_waits_for_a_person_not_for_a_time(table: Table, clock: Clock) -> None:
    table.bring(State.UNCONFIRMED)
    clock.tick(PATIENCE)
    reconciler = Reconciler(context_of(table, ScriptedService()), 1)
    await turn(reconciler)
    clock.tick(9 * 3600)
    assert await turn(reconciler) is None
    assert outcome_of(table) == HELD


async def test_a_generation_of_another_request_is_not_adopted_but_held(table: Table, clock: Clock) -> None:
    table.sync("mona", "lisa")
    mona, lisa = table.intend()
    table.accept(lisa, "g-lisa")
    table.lose(mona)
    clock.tick(SECOND)
    await turn(Reconciler(context_of(table, ScriptedService(findings=[adopted("g-lisa")]), RESUBMIT), 1))
    assert outcome_of(table) == HELD
    assert table.row().error == "the generation g-lisa belongs to another request"
    assert table.attempt("lisa").generation_id == "g-lisa"
    assert table.attempt("mona").generation_id is None


async def test_an_adopted_handle_keeps_what_was_prepared_before_the_request(table: Table, clock: Clock) -> None:
    table.sync("mona")
    (job,) = table.intend()
    table.change(submission.prepared, job, RUN, {"upload": "u-1"}, table.now, table.now + MINUTE)
    table.lose(job)
    clock.tick(SECOND)
    service = ScriptedService(findings=[adopted()])
    await turn(Reconciler(context_of(table, service), 1))
    ((searched,),) = service.searched
    assert searched.handle == {"upload": "u-1"}
    assert json.loads(table.attempt().handle) == {"upload": "u-1", "id": "g-1"}


async def test_the_log_names_what_each_search_came_to(
    table: Table, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "batchgen.reconciler")
    table.bring(State.UNCONFIRMED)
    reconciler = Reconciler(context_of(table, ScriptedService(findings=[None, Absent(NOON)])), 1)
    for _ in range(2):
        await turn(reconciler)
        clock.tick(MINUTE)
    assert [record.message for record in caplog.records] == ["search.unread", "search.absent"]
