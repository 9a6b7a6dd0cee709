"""Every transition: the states it leaves, what it writes, and that it writes nothing in any other state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from batchgen.jobs import TRANSITIONS, Attempt, ErrorClass, Job, Outcome, Output, State
from batchgen.jobtable import delivery, polling, reconciliation, submission
from batchgen.jobtable.rows import load_jobs
from batchgen.jobtable.transition import move
from batchgen.services.base import Blocked, Failed, NotSent, Trouble
from tests.table import RUN, Table

NO_OUTPUTS = (Output(99, 1, "https://cdn.test/v.mp4"),)
GONE = Failed("it expired", kind=ErrorClass.EXPIRED, cost_usd=None)
STAMPS = {State.DONE: "delivered_at", State.FAILED: "failed_at", State.CANCELLED: "cancelled_at"}


@dataclass(frozen=True)
class Held:
    """What a stage may still hold of the one job, however its row has changed since."""

    table: Table
    job: Job

    def change(self, function: Callable[..., bool], *args: Any, **kwargs: Any) -> bool:
        return self.table.change(function, *args, **kwargs)


def held_in(table: Table, state: State) -> Held:
    """One job in `state`, and what its stages hold of it; `RUN` leases it where a stage needs a lease."""
    table.bring(state)
    if state in (State.GENERATING, State.DOWNLOADING):
        (job,) = table.claim(state)
        return Held(table, replace(job, outputs=job.outputs or NO_OUTPUTS))
    row = table.row()
    if row.attempt_id:
        (job,) = table.database.read_now(load_jobs, [row.id], with_outputs=True)
        return Held(table, replace(job, outputs=job.outputs or NO_OUTPUTS))
    columns = {name: getattr(row, name) for name in Job.__dataclass_fields__ if name not in ("attempt", "outputs")}
    nobodys = Attempt(99, "none", table.now)
    return Held(table, Job(**{**columns, "state": state}, attempt=nobodys, outputs=NO_OUTPUTS))


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
STEPS = [
    Step("accepted", SUBMITTED, State.GENERATING, lambda h: h.table.accept(h.job), Outcome.ACCEPTED),
    Step("rejected", SUBMITTED, State.FAILED, lambda h: h.table.reject(h.job), Outcome.REJECTED),
    Step("throttled", SUBMITTED, State.PENDING, lambda h: h.table.throttle(h.job), Outcome.THROTTLED),
    Step(
        "not sent",
        SUBMITTED,
        State.PENDING,
        lambda h: h.change(submission.returned, h.job, NotSent("no route"), h.table.now),
        Outcome.NOT_SENT,
    ),
    Step(
        "blocked",
        SUBMITTED,
        State.PENDING,
        lambda h: h.change(submission.returned, h.job, Blocked(Trouble.AUTH, "bad key", 401), h.table.now),
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
        lambda h: h.change(reconciliation.abandoned, h.job, "given up by a person", h.table.now),
        Outcome.UNCONFIRMED,
    ),
    Step("finished", GENERATED, State.DOWNLOADING, lambda h: h.table.finish(h.job), Outcome.ACCEPTED),
    Step("failed", GENERATED, State.FAILED, lambda h: h.table.fail(h.job), Outcome.ACCEPTED),
    Step(
        "gone at the service",
        frozenset({State.DOWNLOADING}),
        State.FAILED,
        lambda h: h.change(polling.failed, h.job, RUN, GONE, h.table.now, leaving=State.DOWNLOADING),
        Outcome.ACCEPTED,
    ),
    Step("delivered", frozenset({State.DOWNLOADING}), State.DONE, lambda h: h.table.deliver(h.job)),
    Step("retry", frozenset({State.FAILED, State.CANCELLED}), State.PENDING, lambda h: bool(h.table.retry("mona"))),
    Step("cancel", frozenset({State.PENDING}), State.CANCELLED, lambda h: bool(h.table.cancel("mona"))),
]
UPDATES = [
    # (name, from where, act): what changes a row without moving it
    ("working", State.GENERATING, lambda h: h.change(polling.working, h.job, RUN, "queued", h.table.now, h.table.now)),
    ("unanswered", State.GENERATING, lambda h: h.change(polling.unanswered, h.job, RUN, "cut", h.table.now)),
    ("no file", State.GENERATING, lambda h: h.change(polling.without_file, h.job, RUN, "completed", 1, h.table.now)),
    ("begun", State.DOWNLOADING, lambda h: h.change(delivery.begun, h.job, RUN, h.job.outputs[0], '"v1"')),
    ("relocated", State.DOWNLOADING, lambda h: h.change(delivery.relocated, h.job, RUN, h.job.outputs[0], "u")),
    ("verified", State.DOWNLOADING, lambda h: h.change(delivery.verified, h.job, RUN, h.job.outputs[0], 9, "ab")),
    ("postponed", State.DOWNLOADING, lambda h: h.change(delivery.postponed, h.job, RUN, "cut", h.table.now)),
    ("looked", State.UNCONFIRMED, lambda h: h.change(reconciliation.postponed, h.job, h.table.now)),
]


def id_of(value: object) -> str | None:
    return value.name if isinstance(value, Step) else str(value) if isinstance(value, str) else None


@pytest.mark.parametrize("step", STEPS, ids=id_of)
@pytest.mark.parametrize("state", State)
def test_a_step_leaves_only_the_states_it_may_leave(table: Table, step: Step, state: State) -> None:
    if state is State.SUBMITTING and step.leaves == UNCONFIRMED:
        return  # an UnconfirmedAttempt exists only after its row has left submitting
    hand = held_in(table, state)
    before, row, attempts, events = table.everything(), table.row(), table.attempts(), table.events()
    assert step.act(hand) is (state in step.leaves)
    if state not in step.leaves:
        assert table.everything() == before
        return
    moved = table.row()
    assert moved.state == step.to
    assert len(table.events()) == len(events) + 1
    last = table.events()[-1]
    assert (last.job_id, last.at, last.from_state, last.to_state) == (row.id, table.now, state, step.to)
    assert (moved.leased_by, moved.leased_until) == (None, None)
    assert {state for state, stamp in STAMPS.items() if getattr(moved, stamp)} == (
        {step.to} if step.to.is_terminal else set()
    )
    if step.outcome:
        assert table.attempts()[-1].outcome == step.outcome
    assert len(table.attempts()) == len(attempts)


def test_every_transition_has_a_step() -> None:
    arrows = {(leaving, step.to) for step in STEPS for leaving in step.leaves}
    allowed = {(leaving, to) for leaving, targets in TRANSITIONS.items() for to in targets}
    claimed = {(State.PENDING, State.SUBMITTING)}  # tested in test_jobtable_claims
    assert arrows | claimed == allowed


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("to", State)
def test_a_transition_that_is_not_declared_is_refused(table: Table, state: State, to: State) -> None:
    if to in TRANSITIONS[state]:
        return
    hand = held_in(table, state)
    with pytest.raises(AssertionError, match=f"{state} does not lead to {to}"):
        table.change(lambda connection: move(connection, hand.job, state, to, table.now))


@pytest.mark.parametrize(("name", "at", "act"), UPDATES, ids=id_of)
@pytest.mark.parametrize("state", State)
def test_an_update_without_a_transition_changes_only_jobs_in_its_state(
    table: Table, name: str, at: State, act: Callable[[Held], bool], state: State
) -> None:
    hand = held_in(table, state)
    hand = replace(hand, job=replace(hand.job, state=at))  # as the stage claimed it
    before = table.everything()
    assert act(hand) is (state is at)
    *rows, events = table.everything()
    assert events == before[-1]
    assert (rows == before[:-1]) is (state is not at)


HELD_BY_A_LEASE = [step for step in STEPS if step.name in ("finished", "failed", "delivered", "gone at the service")]


@pytest.mark.parametrize("step", HELD_BY_A_LEASE, ids=id_of)
def test_a_worker_that_lost_its_lease_moves_nothing(table: Table, step: Step) -> None:
    hand = held_in(table, *step.leaves)
    table.bury(RUN)
    assert table.claim(hand.job.state, "run-b")
    before = table.everything()
    assert step.act(hand) is False
    assert table.everything() == before


@pytest.mark.parametrize(
    ("name", "at", "act"), [step for step in UPDATES if step[1] is not State.UNCONFIRMED], ids=id_of
)
def test_a_worker_that_lost_its_lease_updates_nothing(
    table: Table, name: str, at: State, act: Callable[[Held], bool]
) -> None:
    hand = held_in(table, at)
    table.bury(RUN)
    assert table.claim(at, "run-b")
    before = table.everything()
    assert act(hand) is False
    assert table.everything() == before


# --- the attempt is the fence ----------------------------------------------------------------------------------------


def test_an_answer_that_comes_after_recovery_is_still_recorded(table: Table) -> None:
    intent = table.bring(State.SUBMITTING)
    table.bury(RUN)
    (attempt,) = table.unconfirmed("run-b")
    assert table.accept(intent, "g-late")
    assert (table.row().state, table.attempts()[0].generation_id) == ("generating", "g-late")
    # The other run, which has just asked the service, comes too late.
    before = table.everything()
    assert not table.adopt(attempt, "g-late")
    assert not table.refute(attempt)
    assert not table.change(reconciliation.hold, attempt)
    assert table.everything() == before


def test_an_answer_that_comes_after_adoption_changes_nothing(table: Table) -> None:
    intent = table.bring(State.SUBMITTING)
    table.bury(RUN)
    (attempt,) = table.unconfirmed("run-b")
    table.adopt(attempt, "g-1")
    before = table.everything()
    assert not table.accept(intent, "g-1")
    assert not table.reject(intent)
    assert not table.throttle(intent)
    assert not table.lose(intent)
    assert table.everything() == before


def test_an_answer_to_the_first_attempt_does_not_change_the_second(table: Table) -> None:
    first = table.bring(State.UNCONFIRMED)
    (attempt,) = table.unconfirmed()
    table.refute(attempt)
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


def test_a_generation_belongs_to_one_attempt(table: Table) -> None:
    """A service that answers with another request's generation is not believed: a person decides."""
    table.sync("a", "b", "c")
    first, second, third = table.intend()
    assert table.accept(first, "g-1")
    assert table.accept(second, "g-1")
    assert [attempt.outcome for attempt in table.attempts()[:2]] == [Outcome.ACCEPTED, Outcome.UNCONFIRMED]
    assert "belongs to another request" in table.row("b").error
    table.lose(third)
    for job in table.unconfirmed():
        assert not table.adopt(job, "g-1")
    assert {key: table.row(key).next_at for key in ("b", "c")} == {"b": None, "c": None}
    assert len(table.database.read_now(reconciliation.held_jobs, table.batch_id)) == 2


def test_a_failure_is_kept_in_the_service_s_own_words(table: Table) -> None:
    table.bring(State.FAILED)
    row = table.row()
    assert (row.error_class, row.error) == (ErrorClass.PARAMETER, "no such duration")
    assert table.events()[-1].detail == "no such duration"
    assert (table.attempts()[0].error, table.attempts()[0].http_status) == ("no such duration", 400)


def test_failures_in_a_row_are_counted_and_reset_by_a_good_answer(table: Table) -> None:
    table.bring(State.GENERATING)
    for expected in (1, 2, 3):
        (job,) = table.claim(State.GENERATING)
        table.change(polling.unanswered, job, RUN, "502", table.now)
        assert (table.row().failures, table.row().error) == (expected, "502")
    (job,) = table.claim(State.GENERATING)
    assert (job.failures, job.attempt.remote_status) == (3, None)
    table.change(polling.working, job, RUN, "queued", table.now, table.now)
    assert (table.row().failures, table.row().error, table.attempt().remote_status) == (0, None, "queued")
