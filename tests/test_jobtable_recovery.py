"""Recovery only re-queues: a request that may have been sent becomes unconfirmed, everything else is due again."""

from __future__ import annotations

import pytest

from batchgen.jobs import Outcome, State
from batchgen.jobtable import delivery, leases, polling, reconciliation, statistics
from batchgen.jobtable.run_lock import Owner
from batchgen.jobtable.schema import runs
from tests.table import HOUR, LEASE, MINUTE, RUN, SECOND, Table

ACTIVE = [state for state in State if state.is_active]


def held_in(table: Table, state: State, run_id: str = RUN) -> None:
    """One job in `state`, leased by the run `run_id`."""
    table.bring(state, run_id=run_id)
    if state is State.UNCONFIRMED:
        assert table.unconfirmed(run_id)
    elif state is not State.SUBMITTING:
        assert table.claim(state, run_id)
    assert table.row().leased_by == run_id


@pytest.mark.parametrize("state", ACTIVE)
def test_the_jobs_of_a_dead_run_are_due_at_once(table: Table, state: State) -> None:
    held_in(table, state)
    before, attempt = table.row(), table.attempt()
    table.now += SECOND
    assert table.bury() == 1
    row = table.row()
    assert (row.leased_by, row.leased_until, row.next_at) == (None, None, table.now)
    assert row.state == (State.UNCONFIRMED if state is State.SUBMITTING else state)
    assert (row.failures, row.attempt_id) == (0, before.attempt_id)
    assert table.attempt().generation_id == attempt.generation_id


def test_a_request_that_may_have_been_sent_becomes_unconfirmed(table: Table) -> None:
    held_in(table, State.SUBMITTING)
    table.bury()
    row, (attempt,) = table.row(), table.attempts()
    assert (row.error_class, row.error, row.attempt_id) == ("unconfirmed", leases.RUN_ENDED, attempt.id)
    assert (attempt.outcome, attempt.error, attempt.answered_at) == (Outcome.UNCONFIRMED, leases.RUN_ENDED, table.now)
    assert table.story() == ["pending", "submitting", "unconfirmed"]
    (job,) = table.unconfirmed("run-b")
    assert job.attempt.client_request_id == attempt.client_request_id


@pytest.mark.parametrize("state", ACTIVE)
def test_a_second_recovery_changes_nothing(table: Table, state: State) -> None:
    held_in(table, state)
    table.bury()
    before = table.everything()
    table.now += MINUTE
    assert table.bury() == 0
    assert table.everything() == before


@pytest.mark.parametrize("state", ACTIVE)
def test_recovery_leaves_the_leases_of_living_runs(table: Table, state: State) -> None:
    held_in(table, state)
    before = table.everything()
    assert table.bury("run-b") == 0
    assert table.change(leases.recover_dead, [], table.now) == 0
    assert table.change(leases.recover_expired, table.batch_id, table.now) == 0
    assert table.everything() == before


@pytest.mark.parametrize(("after", "recovered"), [(LEASE - SECOND, 0), (LEASE, 1)])
def test_a_run_on_another_machine_keeps_its_whole_lease(table: Table, after: object, recovered: int) -> None:
    held_in(table, State.SUBMITTING, "run-elsewhere")
    table.now += after  # type: ignore[operator]
    assert table.change(leases.recover_expired, table.batch_id, table.now) == recovered
    assert table.row().state == ("unconfirmed" if recovered else "submitting")


def test_the_runs_that_hold_leases_are_listed_with_their_hosts(table: Table) -> None:
    for run, host in ((RUN, "here"), ("run-b", "there"), ("idle", "here")):
        table.change(leases.begin_run, run, table.batch_id, Owner(host, 1, True), table.now)
    held_in(table, State.SUBMITTING)
    assert table.database.read_now(leases.holders) == {RUN: Owner("here", 1, True)}
    table.bury()
    assert table.database.read_now(leases.holders) == {}


@pytest.mark.parametrize("state", ACTIVE)
def test_a_run_that_ends_releases_its_leases(table: Table, state: State) -> None:
    table.change(leases.begin_run, RUN, table.batch_id, Owner("here", 7, True), table.now)
    held_in(table, state)
    table.now += MINUTE
    table.change(leases.end_run, RUN, 130, table.now)
    assert table.row().leased_by is None
    run = table.database.read_now(lambda connection: connection.execute(runs.select()).one())
    assert (run.pid, run.ended_at, run.exit_code, run.selection) == (7, table.now, 130, None)


# --- a new run looks at once -----------------------------------------------------------------------------------------


def test_a_new_run_makes_waiting_jobs_due_at_once(table: Table) -> None:
    table.bring(State.UNCONFIRMED, "unconfirmed")
    (job,) = table.unconfirmed()
    table.change(reconciliation.postponed, job, table.now + HOUR)
    table.bring(State.UNCONFIRMED, "held")
    (job,) = table.unconfirmed()
    table.change(reconciliation.hold, job)
    table.bring(State.DOWNLOADING, "cut")
    (job,) = table.claim(State.DOWNLOADING)
    table.change(delivery.postponed, job, RUN, "cut", table.now + HOUR)
    table.bring(State.GENERATING, "unanswered")
    (job,) = table.claim(State.GENERATING)
    table.change(polling.unanswered, job, RUN, "503", table.now + HOUR)
    table.now += MINUTE
    table.change(leases.wake_waiting, table.batch_id, table.now)
    waited = ("unconfirmed", "held", "cut", "unanswered")
    assert {row.key: row.next_at for row in table.rows()} == dict.fromkeys(waited, table.now)
    assert (table.row("cut").failures, table.row("unanswered").failures) == (0, 1)
    assert table.database.read_now(statistics.batch_summary, table.batch_id, table.now).held == 0


def test_a_new_run_keeps_the_poll_schedule_but_polls_late_generations_at_once(table: Table) -> None:
    next_poll = {"late": 3 * HOUR, "planned": HOUR + 5 * MINUTE, "far": 25 * HOUR}  # the last by a clock that was set
    noon = table.now
    for key in next_poll:
        table.bring(State.GENERATING, key)
        (job,) = table.claim(State.GENERATING)
        table.change(polling.working, job, RUN, "queued", table.now, noon + next_poll[key])
        table.now += MINUTE
    table.now = table.attempt("late").deadline_at  # the others are late one and two minutes later
    assert table.now == noon + HOUR
    table.change(leases.wake_waiting, table.batch_id, table.now)
    due = {row.key: row.next_at for row in table.rows()}
    assert due == {"late": table.now, "planned": noon + next_poll["planned"], "far": table.now}


def test_a_new_run_changes_no_job_that_another_run_leases(table: Table) -> None:
    held_in(table, State.DOWNLOADING)
    before = table.everything()
    table.now += MINUTE
    table.change(leases.wake_waiting, table.batch_id, table.now)
    assert table.everything() == before
