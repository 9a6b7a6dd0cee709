"""Every transition: the states it leaves, what it writes, and that it writes nothing in any other state."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Connection

from batchgen.jobs import TRANSITIONS, Attempt, ChargeSource, ErrorClass, Job, Outcome, Output, State
from batchgen.jobtable import delivery, ledger, polling, reconciliation, statistics, submission
from batchgen.jobtable.delivery import PlacedFile
from batchgen.jobtable.ledger import Totals
from batchgen.jobtable.rows import load_jobs
from batchgen.jobtable.submission import Sender
from batchgen.jobtable.transition import change_state
from batchgen.services.outcomes import Accepted, Adopted, Blocked, Failed, Finished, NotSent, Rejected, Trouble
from tests.conftest import NOON
from tests.table import HOUR, LEASE, MINUTE, RUN, SECOND, Table

STAMPS = {State.DONE: "delivered_at", State.FAILED: "failed_at", State.CANCELLED: "cancelled_at"}


@dataclass(frozen=True)
class Held:
    """What a stage may still hold of the one job, however its row has changed since."""

    table: Table
    job: Job

    def change(self, function: Callable[..., object], *args: Any, **kwargs: Any) -> bool:
        return bool(self.table.change(function, self.job, *args, **kwargs))

    @property
    def output(self) -> Output:
        (output,) = self.job.outputs
        return output


NOWHERE = Attempt(99, "none", NOON, NOON)
"""The attempt of a stage whose job has none any more."""
URL = "https://cdn.test/v.mp4"


def held_in(table: Table, state: State) -> Held:
    """One job in `state`, and what a stage holds of it; `RUN` leases it where a stage needs a lease."""
    table.bring(state)
    if state in (State.GENERATING, State.DOWNLOADING):
        table.claim(state)
    row = table.row()
    jobs = table.database.read_now(load_jobs, [row.id], with_outputs=True)
    if jobs:
        (job,) = jobs
    else:
        names = set(Job.__dataclass_fields__) - {"state", "input_pointers", "attempt", "outputs"}
        fields = {name: getattr(row, name) for name in names}
        job = Job(**fields, state=state, input_pointers=(), attempt=NOWHERE)
    return Held(table, job if job.outputs else replace(job, outputs=(Output(99, 1, URL),)))


@dataclass(frozen=True)
class Step:
    name: str
    leaves: frozenset[State]
    to: State
    act: Callable[[Held], bool]
    outcome: Outcome | None = None
    """The outcome of its attempt afterwards, where the step decides that."""


SUBMITTED = frozenset({State.SUBMITTING, State.UNCONFIRMED})
UNCONFIRMED = frozenset({State.UNCONFIRMED})
GENERATED = frozenset({State.GENERATING})
DOWNLOADED = frozenset({State.DOWNLOADING})
CANCELLABLE = frozenset({State.PENDING, State.UNCONFIRMED, State.GENERATING, State.DOWNLOADING, State.FAILED})
GONE = Failed("the result has expired", "expired", ErrorClass.EXPIRED, cost_usd=None)
STEPS = [
    Step("accepted", SUBMITTED, State.GENERATING, lambda h: h.table.accept(h.job), Outcome.ACCEPTED),
    Step("rejected", SUBMITTED, State.FAILED, lambda h: h.table.reject(h.job), Outcome.REJECTED),
    Step("throttled", SUBMITTED, State.PENDING, lambda h: h.table.throttle(h.job), Outcome.THROTTLED),
    Step(
        "not sent",
        SUBMITTED,
        State.PENDING,
        lambda h: h.change(submission.returned, NotSent("no route"), h.table.now),
        Outcome.NOT_SENT,
    ),
    Step(
        "blocked",
        SUBMITTED,
        State.PENDING,
        lambda h: h.change(submission.returned, Blocked(Trouble.AUTH, "bad key", 401), h.table.now),
        Outcome.BLOCKED,
    ),
    Step(
        "unconfirmed",
        frozenset({State.SUBMITTING}),
        State.UNCONFIRMED,
        lambda h: h.table.lose(h.job),
        Outcome.UNCONFIRMED,
    ),
    Step("adopted", UNCONFIRMED, State.GENERATING, lambda h: h.table.adopt(h.job), Outcome.ACCEPTED),
    Step("refuted", UNCONFIRMED, State.PENDING, lambda h: h.table.refute(h.job), Outcome.ABSENT),
    Step(
        "abandoned",
        UNCONFIRMED,
        State.FAILED,
        lambda h: h.change(reconciliation.abandoned, "given up by a person", h.table.now),
        Outcome.UNCONFIRMED,
    ),
    Step("finished", GENERATED, State.DOWNLOADING, lambda h: h.table.finish(h.job), Outcome.ACCEPTED),
    Step("failed", GENERATED, State.FAILED, lambda h: h.table.fail(h.job), Outcome.ACCEPTED),
    Step("delivered", DOWNLOADED, State.DONE, lambda h: h.table.deliver(h.job), Outcome.ACCEPTED),
    Step(
        "expired",
        DOWNLOADED,
        State.FAILED,
        lambda h: h.change(polling.failed, RUN, GONE, h.table.now, leaving=State.DOWNLOADING),
        Outcome.ACCEPTED,
    ),
    Step("retry", frozenset({State.FAILED, State.CANCELLED}), State.PENDING, lambda h: bool(h.table.retry("mona"))),
    Step("cancel", CANCELLABLE, State.CANCELLED, lambda h: bool(h.table.cancel("mona"))),
    Step("fetched again", frozenset({State.DONE}), State.DOWNLOADING, lambda h: bool(h.table.fetch_again("mona"))),
]
UPDATES: list[tuple[str, State, Callable[[Held], bool]]] = [
    # (name, from where, act): what changes rows without moving the job
    ("working", State.GENERATING, lambda h: h.change(polling.working, RUN, "queued", h.table.now, h.table.now)),
    ("unanswered", State.GENERATING, lambda h: h.change(polling.unanswered, RUN, "cut", h.table.now)),
    ("without file", State.GENERATING, lambda h: h.change(polling.without_file, RUN, "completed", 1, h.table.now)),
    ("begun", State.DOWNLOADING, lambda h: h.change(delivery.begun, RUN, h.output, '"v1"')),
    ("relocated", State.DOWNLOADING, lambda h: h.change(delivery.relocated, RUN, h.output, "https://cdn.test/2")),
    ("verified", State.DOWNLOADING, lambda h: h.change(delivery.verified, RUN, h.output, 9, "ab")),
    ("postponed", State.DOWNLOADING, lambda h: h.change(delivery.postponed, RUN, "cut", h.table.now)),
    ("searched", State.UNCONFIRMED, lambda h: h.change(reconciliation.postponed, h.table.now)),
    ("held", State.UNCONFIRMED, lambda h: h.change(reconciliation.hold, "two of them")),
]
REMOTE = {"working", "without file"}
"""These change the attempt, too: what the service said."""
FILES = {"begun", "relocated", "verified"}
"""These change the row of a file, and not that of its job."""


def id_of(value: object) -> str | None:
    return value.name if isinstance(value, Step) else str(value) if isinstance(value, str) else None


LEGAL = [pytest.param(state, step, id=f"{state}, {step.name}") for step in STEPS for state in sorted(step.leaves)]


@pytest.mark.parametrize(("state", "step"), LEGAL)
def test_a_step_moves_a_job_from_a_state_that_it_may_leave(table: Table, state: State, step: Step) -> None:
    hand = held_in(table, state)
    row, attempts, events = table.row(), table.attempts(), table.events()
    assert step.act(hand) is True
    moved = table.row()
    assert moved.state == step.to
    assert len(table.events()) == len(events) + 1
    last = table.events()[-1]
    assert (last.job_id, last.at, last.from_state, last.to_state) == (row.id, table.now, state, step.to)
    assert (moved.leased_by, moved.leased_until) == (None, None)
    stamped = {state for state, stamp in STAMPS.items() if getattr(moved, stamp)}
    assert stamped == ({step.to} if step.to.is_terminal else set()), "STAMPS has each terminal state"
    if step.outcome:
        assert table.attempts()[-1].outcome == step.outcome
    assert len(table.attempts()) == len(attempts)
    assert last.batch_id == row.batch_id


@pytest.mark.parametrize("state", State)
def test_no_other_step_changes_anything(table: Table, state: State) -> None:
    """Each is tried in turn: after each, the table is as it was."""
    hand = held_in(table, state)
    before = table.everything()
    for step in STEPS:
        if state is State.SUBMITTING and step.leaves == UNCONFIRMED:
            continue  # nobody searches for an attempt before its job has left submitting
        if state not in step.leaves:
            assert step.act(hand) is False, step.name
            assert table.everything() == before, step.name


def test_every_transition_has_a_step() -> None:
    arrows = {(leaving, step.to) for step in STEPS for leaving in step.leaves}
    allowed = {(leaving, to) for leaving, targets in TRANSITIONS.items() for to in targets}
    claimed = {(State.PENDING, State.SUBMITTING)}  # tested in test_jobtable_claims
    sent = (State.UNCONFIRMED, State.GENERATING, State.DOWNLOADING)
    retried = {(left, to) for left in (State.FAILED, State.CANCELLED) for to in sent}  # tested in test_retry
    tested = arrows | claimed | retried
    untried = [f"{leaving} → {to}" for leaving, to in sorted(allowed - tested)]
    assert not untried, f"{', '.join(untried)}: no step of `STEPS` makes this change of `TRANSITIONS`. Add one here"
    unknown = [f"{leaving} → {to}" for leaving, to in sorted(tested - allowed)]
    assert not unknown, f"{', '.join(unknown)}: a step makes this change, which `TRANSITIONS` does not have"


@pytest.mark.parametrize("state", State)
def test_a_transition_that_is_not_declared_is_refused(table: Table, state: State) -> None:
    job = held_in(table, state).job

    def refusal(connection: Connection, to: State) -> str:
        try:
            return f"{to}: {change_state(connection, job, state, to, table.now)}"
        except AssertionError as error:
            return str(error)

    before = table.everything()
    for to in State:
        if to not in TRANSITIONS[state]:
            assert table.change(refusal, to) == f"{state} does not lead to {to}"
            assert table.everything() == before, to


@pytest.mark.parametrize(("name", "at", "act"), UPDATES, ids=id_of)
def test_an_update_changes_its_own_rows_and_moves_no_job(
    table: Table, name: str, at: State, act: Callable[[Held], bool]
) -> None:
    hand = held_in(table, at)
    before = table.everything()
    assert act(hand) is True
    changed = [now != then for now, then in zip(table.everything(), before, strict=True)]
    assert changed == [name not in FILES, name in REMOTE, name in FILES, False]


@pytest.mark.parametrize("state", State)
def test_an_update_changes_no_job_of_another_state(table: Table, state: State) -> None:
    """Each is tried in turn: after each, the table is as it was."""
    hand = held_in(table, state)
    before = table.everything()
    for name, at, act in UPDATES:
        if state is not at:
            late = replace(hand, job=replace(hand.job, state=at))  # as the stage claimed it
            assert act(late) is False, name
            assert table.everything() == before, name


HELD_BY_A_LEASE: list[tuple[str, State, Callable[[Held], bool]]] = [
    *((step.name, next(iter(step.leaves)), step.act) for step in STEPS if step.leaves in (GENERATED, DOWNLOADED)),
    *(update for update in UPDATES if update[1] is not State.UNCONFIRMED),
]


@pytest.mark.parametrize(("name", "at", "act"), HELD_BY_A_LEASE, ids=id_of)
def test_a_worker_that_lost_its_lease_changes_nothing(
    table: Table, name: str, at: State, act: Callable[[Held], bool]
) -> None:
    hand = held_in(table, at)
    table.bury(RUN)
    assert table.claim(at, "run-b")
    before = table.everything()
    assert act(hand) is False, name
    assert table.everything() == before


# --- the attempt is the fence ----------------------------------------------------------------------------------------


def test_an_answer_that_comes_after_recovery_is_still_recorded(table: Table) -> None:
    job = table.bring(State.SUBMITTING)
    table.bury(RUN)
    (unconfirmed,) = table.unconfirmed("run-b")
    assert table.accept(job, "g-late")
    assert (table.row().state, table.attempt().generation_id) == ("generating", "g-late")
    # The other run, which has just read the log, comes too late.
    before = table.everything()
    assert not table.adopt(unconfirmed, "g-late")
    assert not table.refute(unconfirmed)
    assert not table.change(reconciliation.hold, unconfirmed)
    assert table.everything() == before


def test_an_answer_that_comes_after_adoption_changes_nothing(table: Table) -> None:
    job = table.bring(State.SUBMITTING)
    table.bury(RUN)
    (unconfirmed,) = table.unconfirmed("run-b")
    table.adopt(unconfirmed, "g-1")
    before = table.everything()
    assert not table.accept(job, "g-1")
    assert not table.reject(job)
    assert not table.throttle(job)
    assert not table.lose(job)
    assert table.everything() == before


def test_an_answer_to_the_first_attempt_does_not_change_the_second(table: Table) -> None:
    first = table.bring(State.UNCONFIRMED)
    (unconfirmed,) = table.unconfirmed()
    table.refute(unconfirmed)
    (second,) = table.intend("run-b")
    for late in (table.reject, table.throttle, table.lose):
        before = table.everything()
        assert not late(first)
        assert table.everything() == before
    assert not table.accept(first, "g-first")
    row, attempts = table.row(), table.attempts()
    assert (row.state, row.attempt_id) == ("submitting", second.attempt.id)
    assert (attempts[1].outcome, attempts[1].generation_id) == (Outcome.SENDING, None)
    assert table.accept(second, "g-second")
    assert table.attempt().generation_id == "g-second"


def test_a_generation_id_that_comes_after_giving_up_is_kept_in_the_ledger(table: Table) -> None:
    """The job may already have been sent again, but the ledger keeps the generation that may be paid, as released."""
    first = table.bring(State.UNCONFIRMED)
    (unconfirmed,) = table.unconfirmed()
    table.refute(unconfirmed)
    table.intend("run-b")
    table.accept(first, "g-first", "0.28")
    attempt = table.attempts()[0]
    assert (attempt.generation_id, str(attempt.cost_usd), attempt.released_at) == ("g-first", "0.28", table.now)
    assert attempt.outcome == Outcome.ACCEPTED


def test_a_generation_of_another_attempt_is_not_taken_and_the_job_is_unconfirmed(table: Table) -> None:
    """A service that answers two creates with one generation has made one video, or has lost an id: nobody knows."""
    table.bring(State.GENERATING, "lisa")
    job = table.bring(State.SUBMITTING)
    assert table.accept(job, "g-lisa", "0.28")
    row, attempt = table.row(), table.attempt()
    assert (row.state, row.error_class, row.attempt_id) == ("unconfirmed", ErrorClass.UNCONFIRMED, attempt.id)
    assert "g-lisa, which belongs to another request" in row.error
    assert (attempt.outcome, attempt.generation_id, attempt.cost_usd) == (Outcome.UNCONFIRMED, None, None)
    assert (table.attempt("lisa").generation_id, table.row("lisa").state) == ("g-lisa", "generating")
    assert table.intend() == [], "it is not sent again"


def test_a_generation_of_another_attempt_is_not_adopted_and_the_job_is_held(table: Table) -> None:
    table.bring(State.GENERATING, "lisa")
    table.bring(State.UNCONFIRMED)
    (job,) = table.unconfirmed()
    assert not table.adopt(job, "g-lisa")
    row = table.row()
    assert (row.state, row.next_at, row.leased_by) == ("unconfirmed", None, None)
    assert row.error == "the generation g-lisa belongs to another request"
    assert (table.attempt().outcome, table.attempt().generation_id) == (Outcome.UNCONFIRMED, None)
    assert [held.key for held in table.database.read_now(reconciliation.held_jobs, table.batch_id)] == ["mona"]


def test_a_generation_of_a_released_attempt_still_belongs_to_it(table: Table) -> None:
    table.bring(State.GENERATING)
    (job,) = table.claim(State.GENERATING)
    table.fail(job)
    table.retry("mona")
    (again,) = table.intend()
    assert table.accept(again, "g-mona")
    assert table.states() == {"mona": "unconfirmed"}
    assert [attempt.generation_id for attempt in table.attempts()] == ["g-mona", None]


def test_two_accounts_may_have_the_same_generation_id(table: Table) -> None:
    table.bring(State.GENERATING, "lisa")
    table.sync("lisa", "mona")
    chosen = table.change(submission.ready, table.batch_id, 1)
    until, sender = table.now + LEASE, Sender(RUN, "aimlapi", "another")
    (job,) = table.change(submission.intend, table.batch_id, sender, table.now, until, chosen)
    assert table.accept(job, "g-lisa")
    assert [attempt.generation_id for attempt in table.attempts()] == ["g-lisa", "g-lisa"]


def test_the_same_answer_twice_is_recorded_once(table: Table) -> None:
    job = table.bring(State.SUBMITTING)
    assert table.accept(job, "g-1")
    before = table.everything()
    assert not table.accept(job, "g-1")
    assert table.everything() == before


# --- the ledger of attempts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lost_first", [False, True])
def test_a_request_is_one_attempt_however_its_answer_comes(table: Table, lost_first: bool) -> None:
    job = table.bring(State.SUBMITTING)
    if lost_first:
        table.bury(RUN)
        assert [attempt.outcome for attempt in table.attempts()] == [Outcome.UNCONFIRMED]
    table.accept(job)
    (attempt,) = table.attempts()
    assert (attempt.number, attempt.outcome, attempt.id) == (1, Outcome.ACCEPTED, table.row().attempt_id)


@pytest.mark.parametrize("lost_first", [False, True])
def test_a_refusal_that_is_not_the_job_s_fault_costs_nothing_and_lets_it_be_sent_again(
    table: Table, lost_first: bool
) -> None:
    job = table.bring(State.SUBMITTING)
    if lost_first:
        table.bury(RUN)
    table.throttle(job)
    row, (attempt,) = table.row(), table.attempts()
    assert (row.attempt_id, row.failures, row.error) == (None, 0, None)
    assert (attempt.outcome, attempt.answered_at, attempt.cost_usd) == (Outcome.THROTTLED, table.now, None)
    assert table.recomputed_totals().unpriced == 0
    (again,) = table.intend()
    assert [attempt.number for attempt in table.attempts()] == [1, 2]
    assert again.attempt.id != attempt.id


def test_a_request_that_was_not_sent_is_sent_again(table: Table) -> None:
    table.sync("mona")
    for _ in range(2):
        (job,) = table.intend()
        table.change(submission.returned, job, NotSent("no route"), table.now)
    assert [attempt.outcome for attempt in table.attempts()] == [Outcome.NOT_SENT] * 2


def test_an_accepted_attempt_has_all_that_finds_its_generation_again(table: Table) -> None:
    job = table.bring(State.SUBMITTING)
    assert table.change(submission.prepared, job, RUN, {"upload": "u-1"}, table.now, table.now + MINUTE)
    answer = Accepted("g-1", Decimal("0.28"), 201, {"url": "https://queue.test/g-1", "upload": "u-1"})
    table.now += MINUTE
    assert table.change(submission.accepted, job, answer, table.now, table.now + HOUR, table.now + 2 * MINUTE)
    attempt = table.attempt()
    assert (attempt.generation_id, json.loads(attempt.handle)) == ("g-1", answer.handle)
    assert (attempt.http_status, attempt.cost_usd, attempt.charge_source) == (201, answer.cost_usd, ChargeSource.ANSWER)
    assert (attempt.intent_at, attempt.answered_at) == (table.now - MINUTE, table.now)
    assert (attempt.polled_at, attempt.deadline_at) == (table.now, table.now + HOUR)
    assert table.row().next_at == table.now + 2 * MINUTE
    table.now += 2 * MINUTE
    (claimed,) = table.claim(State.GENERATING)
    assert claimed.attempt.handle == answer.handle


def test_what_was_prepared_is_stored_before_the_request_and_not_after_its_answer(table: Table) -> None:
    job = table.bring(State.SUBMITTING)
    assert table.change(submission.prepared, job, RUN, {"upload": "u-1"}, table.now, table.now + MINUTE)
    table.lose(job)
    (unconfirmed,) = table.unconfirmed()
    assert reconciliation.sent_attempt(unconfirmed).handle == {"upload": "u-1"}
    assert not table.change(submission.prepared, job, RUN, {"upload": "u-2"}, table.now, table.now + MINUTE)
    found = Adopted("g-1", table.now, Decimal("0.28"), {"url": "https://queue.test/g-1"})
    assert table.change(reconciliation.adopted, unconfirmed, found, table.now + MINUTE, table.now + HOUR)
    attempt = table.attempt()
    assert json.loads(attempt.handle) == {"upload": "u-1", "url": "https://queue.test/g-1"}
    assert (attempt.cost_usd, attempt.charge_source) == (Decimal("0.28"), ChargeSource.LOG)
    assert (attempt.answered_at, attempt.deadline_at) == (table.now, table.now + HOUR)


def test_a_failure_is_kept_in_the_service_s_own_words(table: Table) -> None:
    table.bring(State.FAILED)
    row, (attempt,) = table.row(), table.attempts()
    assert (row.error_class, row.error) == ("parameter", "no such duration")
    assert table.events()[-1].detail == "no such duration"
    assert (attempt.error_class, attempt.error, attempt.http_status) == ("parameter", "no such duration", 400)


KINDS = [
    (Rejected("nudity", 400, ErrorClass.MODERATION, "prompt"), "prompt: refused by moderation: nudity"),
    (Rejected("nudity", 400, ErrorClass.MODERATION), "the content: refused by moderation: nudity"),
    (Rejected("no image", 422, ErrorClass.INPUT_FILE, "image_url"), "image_url: refused: no image"),
    (Failed("a face", kind=ErrorClass.MODERATION, input="image_url"), "image_url: refused by moderation: a face"),
    (Failed("no machine", kind=ErrorClass.CAPACITY), "no machine"),
    (Failed("gone", kind=ErrorClass.EXPIRED), "gone"),
]


@pytest.mark.parametrize(("failure", "sentence"), KINDS)
def test_a_failure_says_of_which_kind_it_is_and_which_input_it_is_about(
    table: Table, failure: Rejected | Failed, sentence: str
) -> None:
    if isinstance(failure, Rejected):
        table.change(submission.rejected, table.bring(State.SUBMITTING), failure, table.now)
    else:
        table.bring(State.GENERATING)
        (job,) = table.claim(State.GENERATING)
        table.change(polling.failed, job, RUN, failure, table.now)
    row, attempt = table.row(), table.attempt()
    assert (row.state, row.error_class, row.error) == ("failed", failure.kind, sentence)
    assert (attempt.error_class, attempt.error) == (failure.kind, sentence)


def test_failures_in_a_row_are_counted_and_reset_by_a_good_answer(table: Table) -> None:
    table.bring(State.GENERATING)
    for expected in (1, 2, 3):
        (job,) = table.claim(State.GENERATING)
        table.change(polling.unanswered, job, RUN, "502", table.now)
        assert (table.row().failures, table.row().error) == (expected, "502")
    (job,) = table.claim(State.GENERATING)
    assert (job.failures, job.attempt.remote_status) == (3, None)
    table.now += SECOND
    table.change(polling.working, job, RUN, "queued", table.now, table.now)
    assert (table.row().failures, table.row().error) == (0, None)
    assert (table.attempt().remote_status, table.attempt().polled_at) == ("queued", table.now)


def test_a_poll_without_an_answer_leaves_the_time_of_the_last_answer(table: Table) -> None:
    table.bring(State.GENERATING)
    answered_at = table.attempt().polled_at
    (job,) = table.claim(State.GENERATING)
    table.now += MINUTE
    table.change(polling.unanswered, job, RUN, "502", table.now)
    assert table.attempt().polled_at == answered_at


# --- several files of one generation ---------------------------------------------------------------------------------

THREE = tuple(f"https://cdn.test/{number}.mp4" for number in (1, 2, 3))


def with_three_files(table: Table) -> Job:
    table.bring(State.GENERATING)
    (job,) = table.claim(State.GENERATING)
    table.now += MINUTE
    collect_by = table.now + HOUR
    table.change(polling.finished, job, RUN, Finished(THREE, "ready", Decimal("0.28")), table.now, collect_by)
    (job,) = table.claim(State.DOWNLOADING)
    return job


def test_a_finished_generation_has_a_row_for_each_of_its_files(table: Table) -> None:
    job = with_three_files(table)
    assert [(output.number, output.url) for output in job.outputs] == list(enumerate(THREE, 1))
    assert [(row.attempt_id, row.number, row.url) for row in table.outputs()] == [
        (job.attempt.id, number, url) for number, url in enumerate(THREE, 1)
    ]
    assert {row.delivered_at for row in table.outputs()} == {None}
    attempt = table.attempt()
    assert (attempt.remote_status, attempt.finished_at, attempt.collect_by) == ("ready", table.now, table.now + HOUR)
    assert (attempt.cost_usd, attempt.charge_source) == (Decimal("0.28"), ChargeSource.POLL)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_a_job_is_done_with_the_last_of_its_files(table: Table, order: tuple[int, ...]) -> None:
    job = with_three_files(table)
    delivered = 0
    for place, index in enumerate(order):
        output = job.outputs[index]
        path = f"mona-{output.number}.mp4"
        assert table.row().state == "downloading"
        assert table.change(delivery.placed, job, RUN, output, PlacedFile(10 + index, f"s{index}", path), table.now)
        delivered += 10 + index
        summary = table.database.read_now(statistics.batch_summary, table.batch_id, table.now)
        assert summary.bytes == delivered
        assert (table.row().state == "done") is (place == 2)
    rows = table.outputs()
    assert [(row.path, row.bytes, row.sha256) for row in rows] == [
        (f"mona-{number}.mp4", 9 + number, f"s{number - 1}") for number in (1, 2, 3)
    ]
    assert {row.delivered_at for row in rows} == {table.now}
    assert table.row().output_path == "mona-1.mp4", "the job's path is that of its first file"
    assert table.story().count("done") == 1


def test_a_file_that_was_delivered_before_a_crash_stays_delivered(table: Table) -> None:
    job = with_three_files(table)
    table.change(delivery.placed, job, RUN, job.outputs[0], PlacedFile(10, "s1", "mona.mp4"), table.now)
    table.bury(RUN)
    (again,) = table.claim(State.DOWNLOADING, "run-b")
    assert [(output.path, output.delivered_at) for output in again.outputs] == [
        ("mona.mp4", table.now),
        (None, None),
        (None, None),
    ]
    assert not table.change(delivery.placed, job, RUN, job.outputs[1], PlacedFile(11, "s2", "two.mp4"), table.now)
    assert table.database.read_now(statistics.batch_summary, table.batch_id, table.now).bytes == 10


def test_a_file_that_two_tasks_of_one_run_have_placed_is_counted_once(table: Table) -> None:
    """A run that stalled longer than its lease claims its own job once more, while the first task still goes on."""
    job = with_three_files(table)
    table.now += LEASE
    (again,) = table.claim(State.DOWNLOADING)
    assert table.change(delivery.placed, job, RUN, job.outputs[0], PlacedFile(10, "s1", "mona.mp4"), table.now)
    before = table.everything()
    assert not table.change(delivery.placed, again, RUN, again.outputs[0], PlacedFile(10, "s1", "other.mp4"), table.now)
    assert table.everything() == before
    assert table.database.read_now(statistics.batch_summary, table.batch_id, table.now).bytes == 10


def test_a_result_that_has_expired_stays_charged_and_its_job_says_why(table: Table) -> None:
    job = with_three_files(table)
    table.change(polling.failed, job, RUN, GONE, table.now, leaving=State.DOWNLOADING)
    row, attempt = table.row(), table.attempt()
    assert (row.state, row.error_class, row.error) == ("failed", ErrorClass.EXPIRED, "the result has expired")
    assert (attempt.error_class, attempt.cost_usd) == (ErrorClass.EXPIRED, Decimal("0.28"))


@pytest.mark.parametrize("known_before", [None, "0.28"])
def test_an_expired_generation_is_not_booked_as_free(table: Table, known_before: str | None) -> None:
    """A service calls a failure free by leaving its charge out, and only what was made and paid for expires."""
    table.accept(table.bring(State.SUBMITTING), cost=known_before)
    (job,) = table.claim(State.GENERATING)
    table.change(polling.failed, job, RUN, replace(GONE, cost_usd=Decimal(0)), table.now)
    totals = table.change(ledger.totals, table.batch_id)
    assert totals == (Totals(spent=Decimal(known_before)) if known_before else Totals(unpriced=1))


def test_each_file_is_resumed_by_its_own_version(table: Table) -> None:
    job = with_three_files(table)
    table.change(delivery.begun, job, RUN, job.outputs[1], '"v2"')
    table.change(delivery.relocated, job, RUN, job.outputs[2], "https://cdn.test/moved.mp4")
    assert [row.etag for row in table.outputs()] == [None, '"v2"', None]
    assert [row.url for row in table.outputs()] == [*THREE[:2], "https://cdn.test/moved.mp4"]
