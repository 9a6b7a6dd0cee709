"""Claims: in order, within the capacity, by one worker at a time, also from several processes on one file."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime

import pytest
from sqlalchemy import update
from sqlalchemy.exc import IntegrityError

from batchgen.jobs import Outcome, State
from batchgen.jobtable import delivery, in_flight, leases, polling, reconciliation
from batchgen.jobtable.in_flight import InFlight
from batchgen.jobtable.schema import attempts, jobs
from batchgen.jobtable.transition import Claim, next_due
from batchgen.services.outcomes import Finished
from tests.processes import gather
from tests.table import ACCOUNT, HOUR, LEASE, MODEL, RUN, SECOND, Table, place_of, spec


def in_flight_at(table: Table, now: datetime) -> int:
    return sum(c.total for c in table.database.read_now(in_flight.in_flight_by_model, "aimlapi", now).values())


def test_the_highest_priority_goes_first_then_the_manifest_s_order(table: Table) -> None:
    table.sync(spec("a"), spec("b", priority=1), spec("c", priority=-1), spec("d", priority=1), spec("e"))
    assert [job.key for job in table.intend(capacity=4)] == ["b", "d", "a", "e"]
    assert [job.key for job in table.intend(capacity=4)] == ["c"]
    assert table.intend() == []


def test_an_intent_is_committed_before_anything_is_sent(table: Table) -> None:
    table.sync("mona")
    (job,) = table.intend()
    row, (attempt,) = table.row(), table.attempts()
    assert (row.state, row.leased_by, row.leased_until, row.next_at) == (
        "submitting",
        RUN,
        table.now + LEASE,
        table.now + LEASE,
    )
    assert row.attempt_id == attempt.id
    assert (attempt.outcome, attempt.intent_at, attempt.job_id) == (Outcome.SENDING, table.now, row.id)
    assert (attempt.number, attempt.service, attempt.account, attempt.model) == (1, "aimlapi", ACCOUNT, row.model)
    assert (attempt.answered_at, attempt.generation_id, attempt.handle) == (None, None, None)
    assert (job.id, job.state) == (row.id, State.SUBMITTING)
    assert (job.attempt.id, job.attempt.client_request_id) == (attempt.id, attempt.client_request_id)
    assert table.events()[-1].detail == attempt.client_request_id


def test_a_client_request_id_has_the_form_that_the_service_stores(table: Table) -> None:
    table.sync(*(f"j{number}" for number in range(50)))
    names = [job.attempt.client_request_id for job in table.intend()]
    assert len(set(names)) == 50
    for name in names:
        assert re.fullmatch(r"[A-Za-z0-9._:-]{1,128}", name)


def test_a_claim_takes_only_jobs_of_its_batch(table: Table) -> None:
    table.sync("mona")
    mine = table.batch_id
    table.sync("lisa", batch=replace(table.batch, name="autumn", manifest=table.folder / "autumn.yaml"))
    table.batch_id = mine
    assert [job.key for job in table.intend()] == ["mona"]


def test_a_job_with_an_open_attempt_is_never_sent_again(table: Table) -> None:
    """Even if the row says pending: the unique index refuses the second attempt."""
    table.sync("mona")
    (job,) = table.intend()
    table.lose(job)
    table.change(
        lambda connection: (
            connection.exec_driver_sql("UPDATE jobs SET state = 'pending', attempt_id = NULL, next_at = NULL") and None
        )
    )
    with pytest.raises(Exception, match="job_id") as refusal:
        table.intend()
    assert isinstance(refusal.value.__cause__, IntegrityError)
    assert table.states() == {"mona": "pending"}


@pytest.mark.parametrize("state", [State.GENERATING, State.DOWNLOADING])
def test_a_leased_job_is_not_claimed_until_the_lease_ends(table: Table, state: State) -> None:
    table.bring(state)
    (held,) = table.claim(state, "run-a")
    assert table.claim(state, "run-b") == []
    assert table.database.read_now(next_due, table.batch_id, state) == table.now + LEASE
    table.now += LEASE - SECOND
    assert table.claim(state, "run-b") == []
    table.now += SECOND
    (taken,) = table.claim(state, "run-b")
    assert taken.id == held.id
    assert table.row().leased_by == "run-b"


def test_a_run_that_renews_keeps_its_leases(table: Table) -> None:
    table.bring(State.GENERATING)
    table.claim(State.GENERATING, "run-a")
    for _ in range(5):
        table.now += LEASE - SECOND
        table.change(leases.renew, "run-a", table.now, table.now + LEASE)
        assert table.claim(State.GENERATING, "run-b") == []


def test_the_longest_due_jobs_are_claimed_first_and_no_more_than_the_capacity(table: Table) -> None:
    for key in ("a", "b", "c"):
        table.bring(State.GENERATING, key)
        table.now += SECOND
    assert [job.key for job in table.claim(State.GENERATING, capacity=2)] == ["a", "b"]
    assert [job.key for job in table.claim(State.GENERATING, capacity=2)] == ["c"]


def test_a_job_that_is_not_due_is_not_claimed(table: Table) -> None:
    table.bring(State.GENERATING)
    table.now -= SECOND
    assert table.claim(State.GENERATING) == []
    assert table.database.read_now(next_due, table.batch_id, State.GENERATING) == table.now + SECOND


@pytest.mark.parametrize("state", State)
def test_in_flight_counts_what_the_service_may_be_working_on(table: Table, state: State) -> None:
    table.bring(state)
    counted = {State.SUBMITTING, State.UNCONFIRMED, State.GENERATING}
    assert in_flight_at(table, table.now) == (1 if state in counted else 0)
    assert table.database.read_now(in_flight.in_flight_by_model, "simulator", table.now) == {}


def test_late_generations_and_held_attempts_take_no_capacity(table: Table) -> None:
    table.bring(State.GENERATING, "late")
    table.bring(State.UNCONFIRMED, "held")
    (job,) = table.unconfirmed()
    table.change(reconciliation.hold, job)
    assert in_flight_at(table, table.now + 2 * HOUR) == 0


def test_an_attempt_whose_answer_was_lost_takes_capacity_only_while_its_generation_may_run(table: Table) -> None:
    table.bring(State.UNCONFIRMED)
    deadline = table.attempt().deadline_at
    assert [in_flight_at(table, at) for at in (table.now, deadline - SECOND, deadline)] == [1, 1, 0]


def test_a_request_on_the_wire_takes_capacity_however_long_it_takes(table: Table) -> None:
    table.bring(State.SUBMITTING)
    assert in_flight_at(table, table.now + 9 * HOUR) == 1


def test_requests_on_the_wire_and_generations_are_counted_for_each_model(table: Table) -> None:
    table.sync("a", spec("b", model="another"), spec("c", model="another"))
    for job in table.intend(capacity=2):
        table.accept(job, f"g-{job.key}")
    table.intend()
    counts = table.database.read_now(in_flight.in_flight_by_model, "aimlapi", table.now)
    assert counts == {MODEL: InFlight(accepted=1), "another": InFlight(accepted=1, on_wire=1)}


def test_what_the_service_keeps_for_hours_only_is_downloaded_before_it_is_deleted(table: Table) -> None:
    for key, hours in (("a", None), ("b", 9), ("c", 2)):
        table.bring(State.GENERATING, key)
        (job,) = table.claim(State.GENERATING)
        collect_by = table.now + hours * HOUR if hours else None
        table.change(polling.finished, job, RUN, Finished(("https://cdn.test/v.mp4",)), table.now, collect_by)
        assert table.attempt(key).collect_by == collect_by
        table.now += SECOND

    def claim(capacity: int, **options: bool) -> list[str]:
        due = Claim(table.batch_id, RUN, table.now, table.now + LEASE, capacity)
        claimed = table.change(delivery.claim_downloads, due, **options)
        return [job.key for job in claimed]

    assert claim(2) == ["a", "b"]
    table.bury()
    assert [claim(1, results_expire=True) for _ in range(3)] == [["c"], ["b"], ["a"]]


@pytest.mark.sqlite
@pytest.mark.parametrize("results_expire", [False, True])
def test_a_due_download_is_claimed_also_in_a_table_that_is_damaged(table: Table, results_expire: bool) -> None:
    """Otherwise it would be due for ever, and the run that waits for it would never end."""
    for key in ("a", "b"):
        table.bring(State.DOWNLOADING, key)
    table.change(
        lambda c: c.execute(update(jobs).where(jobs.c.key == "b").values(attempt_id=table.row("a").attempt_id))
    )
    due = Claim(table.batch_id, RUN, table.now, table.now + LEASE, 9)
    claimed = table.change(delivery.claim_downloads, due, results_expire=results_expire)
    assert len(claimed) == 2


CLAIM = """
import sys
from datetime import datetime, UTC, timedelta
from batchgen.jobtable.database import Database
from batchgen.jobs import Outcome, State
from batchgen.jobtable import submission
from batchgen.jobtable.transition import Claim, claim_due
path, worker, what = sys.argv[1].split("|")
now = datetime(2026, 3, 1, 12, tzinfo=UTC)
until = now + timedelta(minutes=5)
def submit(connection):
    ready = submission.ready(connection, 1, 3)
    sender = submission.Sender(worker, "aimlapi", "0badcafe")
    return submission.intend(connection, 1, sender, now, until, ready)
with Database(path) as database:
    print("ready", flush=True); sys.stdin.readline()
    while True:
        if what == "submit":
            got = database.write_now(submit)
        else:
            got = database.write_now(claim_due, Claim(1, worker, now, until, 3), State(what))
        if not got:
            break
        print(*(job.key for job in got))
"""


@pytest.mark.parametrize("what", ["submit", "generating"])
def test_two_processes_never_claim_one_job_twice(table: Table, what: str) -> None:
    keys = [f"j{number:03}" for number in range(150)]
    table.sync(*keys)
    if what == "generating":
        for job in table.intend(capacity=200):
            table.accept(job, f"g-{job.key}")
    outputs = gather(CLAIM, [f"{place_of(table.database)}|run-{worker}|{what}" for worker in range(3)])
    claimed = [key for output in outputs for key in output.split()]
    assert sorted(claimed) == keys
    if what == "submit":
        assert len(table.attempts()) == len(keys)
    assert {row.leased_by for row in table.rows()} <= {"run-0", "run-1", "run-2"}
    counted = table.database.read_now(
        lambda connection: connection.execute(attempts.select().with_only_columns(attempts.c.job_id)).all()
    )
    assert len(counted) == len(set(counted)) == len(keys)


def test_claims_of_unconfirmed_jobs_use_the_same_leases_as_other_claims(table: Table) -> None:
    table.bring(State.UNCONFIRMED)
    (job,) = table.unconfirmed("run-a")
    (attempt,) = table.attempts()
    assert (job.key, job.attempt.id, job.attempt.client_request_id) == ("mona", attempt.id, attempt.client_request_id)
    assert (job.error, attempt.error) == ("cut", "cut")
    assert table.unconfirmed("run-b") == []
    table.now += LEASE
    assert len(table.unconfirmed("run-b")) == 1
    assert table.unconfirmed("run-c") == []
