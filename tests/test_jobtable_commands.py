"""The commands of a person, retry, cancel and resolve, and what they do to the ledger."""

from __future__ import annotations

from decimal import Decimal

import pytest
from sqlalchemy import Connection

from batchgen.cli.batches import job_keys, states_among
from batchgen.jobs import ChargeSource, ErrorClass, Outcome, State
from batchgen.jobtable import commands, polling, reconciliation, statistics
from batchgen.jobtable.rows import CHUNK
from batchgen.services.outcomes import Failed, Finished
from tests.hot_queries import listening
from tests.table import RUN, Table


def test_retry_makes_a_job_pending_and_keeps_its_attempts(table: Table) -> None:
    table.bring(State.GENERATING)
    (job,) = table.claim(State.GENERATING)
    table.fail(job)
    (before,) = table.attempts()
    assert table.retry("mona") == ["mona"]
    row = table.row()
    assert row.state == "pending"
    assert (row.attempt_id, row.error_class, row.error, row.failed_at) == (None,) * 4
    (attempt,) = table.attempts()
    assert attempt._asdict() == {**before._asdict(), "released_at": table.now}, "nothing else is reset"
    table.accept(table.intend()[0], "g-2")
    assert [(attempt.number, attempt.generation_id) for attempt in table.attempts()] == [(1, "g-mona"), (2, "g-2")]
    assert table.row().attempt_id == table.attempts()[1].id
    assert table.story() == ["pending", "submitting", "generating", "failed", "pending", "submitting", "generating"]


def test_a_job_that_the_manifest_does_not_ask_for_is_not_retried(table: Table) -> None:
    table.bring(State.FAILED, "lisa")
    table.change(commands.retry_for_nothing, table.batch_id, ["lisa"], table.now, table.now, ["lisa"], may_buy=True)
    table.change(commands.retry, table.batch_id, ["lisa"], table.now, ["lisa"])
    assert table.states() == {"lisa": "failed"}


@pytest.mark.parametrize("state", sorted(set(State) - {State.FAILED, State.CANCELLED}))
def test_only_failed_and_cancelled_jobs_are_retried(table: Table, state: State) -> None:
    table.bring(state)
    before = table.everything()
    assert table.retry("mona") == []
    assert table.everything() == before


@pytest.mark.parametrize("state", [State.SUBMITTING, State.DONE, State.CANCELLED])
def test_what_is_on_the_wire_or_has_ended_well_is_not_cancelled(table: Table, state: State) -> None:
    table.bring(state)
    before = table.everything()
    assert table.cancel("mona") == []
    assert table.everything() == before


def test_commands_apply_to_the_named_jobs_only(table: Table) -> None:
    table.sync("a", "b", "c")
    assert table.cancel("b", "c", "nobody") == ["b", "c"]
    assert table.retry("c", "nobody") == ["c"]
    assert table.states() == {"a": "pending", "b": "cancelled", "c": "pending"}
    assert table.database.read_now(commands.states_of, table.batch_id, ["b", "nobody"]) == {"b": State.CANCELLED}


def test_a_command_on_typed_ids_reads_no_other_job(table: Table) -> None:
    table.sync("a", "b", "hero-1")
    every = {"a", "b", "hero-1"}
    for typed, expected in ((["a"], {"a"}), (["a", "b", "a"], {"a", "b"}), (["a", "hero-*"], every), ([], every)):
        assert states_among(table.database, table.batch_id, typed).keys() == expected
    with listening(table.database.reading) as executed:
        rule = {"default": set[State](), "by_pattern": set[State](), "allowed": {State.PENDING}}
        assert job_keys(table.database, table.batch_id, ["a"], verb="cancelled", **rule) == {"a": State.PENDING}
    assert all("'a'" in str(params) for _, params in executed if params), executed


def test_a_job_given_up_may_be_paid_for_until_a_person_retries_it(table: Table) -> None:
    job = table.bring(State.UNCONFIRMED)
    (unconfirmed,) = table.unconfirmed()
    assert table.change(reconciliation.abandoned, unconfirmed, "given up by a person", table.now)
    (attempt,) = table.attempts()
    assert (attempt.outcome, attempt.released_at) == (Outcome.UNCONFIRMED, None)
    assert not table.accept(job, "g-late")  # the job has failed; the ledger records what was paid
    assert table.attempts()[0].generation_id == "g-late"
    table.retry("mona")
    assert table.attempts()[0].released_at == table.now
    assert len(table.intend()) == 1


def test_attempts_held_for_a_person_are_listed_and_decided(table: Table) -> None:
    for key in ("found", "again", "over"):
        table.bring(State.UNCONFIRMED, key)
    for job in table.unconfirmed():
        table.change(reconciliation.hold, job)
    found, again, over = table.database.read_now(reconciliation.held_jobs, table.batch_id)
    assert [job.key for job in (found, again, over)] == ["found", "again", "over"]
    assert table.adopt(found, "g-found")
    assert table.refute(again)
    assert table.change(reconciliation.abandoned, over, "given up", table.now)
    assert table.states() == {"found": "generating", "again": "pending", "over": "failed"}
    assert table.database.read_now(reconciliation.held_jobs, table.batch_id) == []


# --- money -----------------------------------------------------------------------------------------------------------

CREDIT = "0.0000005"


def cost(table: Table) -> Decimal:
    return table.database.read_now(statistics.batch_summary, table.batch_id, table.now).cost_usd


@pytest.mark.sqlite
def test_many_small_amounts_sum_exactly(table: Table) -> None:
    number = 301
    table.sync(*(f"j{n}" for n in range(number)))
    for n, job in enumerate(table.intend(capacity=number)):
        if n % 3:
            table.accept(job, f"g-{n}", CREDIT)
        else:
            table.throttle(job)
    paid = len([attempt for attempt in table.attempts() if attempt.cost_usd is not None])
    assert cost(table) == Decimal(CREDIT) * paid
    assert paid == 200


@pytest.mark.sqlite
@pytest.mark.parametrize("amount", ["0", "0.0000005", "0.1", "0.28", "12345678.9000005", "100000000"])
def test_an_amount_comes_back_as_it_went_in(table: Table, amount: str) -> None:
    table.sync("mona")
    table.accept(table.intend()[0], "g-1", amount)
    (attempt,) = table.attempts()
    assert attempt.cost_usd == cost(table) == Decimal(amount)
    assert attempt.charge_source == ChargeSource.ANSWER

    def raw(sql: str) -> object:
        return table.database.read_now(lambda connection: connection.exec_driver_sql(sql).scalar())

    assert raw("SELECT cost_usd FROM attempts") == amount  # no exponent, no padding: SQL's own sum() reads it
    assert raw("SELECT spent_nanousd FROM batches") == int(Decimal(amount) * 10**9)


def test_a_failed_generation_costs_nothing_and_a_finished_one_what_the_service_says(table: Table) -> None:
    for key in ("failed", "finished", "plain"):
        table.sync(*table.states(), key)
        table.accept(table.intend()[0], f"g-{key}", "0.50")
    failed, finished, plain = table.claim(State.GENERATING)
    table.change(polling.failed, failed, RUN, Failed("no faces"), table.now)
    dearer = Finished(("https://cdn.test/v.mp4",), cost_usd=Decimal("0.2800005"))
    table.change(polling.finished, finished, RUN, dearer, table.now)
    table.change(polling.finished, plain, RUN, Finished(("https://cdn.test/v.mp4",)), table.now)
    charges = {row.key: table.attempt(row.key) for row in table.rows()}
    assert {key: (str(attempt.cost_usd), attempt.charge_source) for key, attempt in charges.items()} == {
        "failed": ("0", ChargeSource.POLL),
        "finished": ("0.2800005", ChargeSource.POLL),
        "plain": ("0.5", ChargeSource.ANSWER),
    }
    assert cost(table) == Decimal("0.7800005")


CHARGED = Failed("finished, but without a file", "completed", ErrorClass.NO_FILE, cost_usd=None)
"""What the poller makes of a generation that is finished and stays without a file."""


def test_a_generation_without_a_video_was_charged_and_is_counted_twice_once_it_is_paid_again(table: Table) -> None:
    table.sync("mona")
    table.accept(table.intend()[0], "g-1", "0.50")
    (job,) = table.claim(State.GENERATING)
    table.change(polling.failed, job, RUN, CHARGED, table.now)
    assert cost(table) == Decimal("0.5")
    table.retry("mona")
    table.accept(table.intend()[0], "g-2", "0.25")
    assert cost(table) == Decimal("0.75")
    assert table.attempt().cost_usd == Decimal("0.25")


def test_a_command_takes_more_keys_than_fit_in_one_statement(table: Table) -> None:
    """An SQLite may take 999 parameters and no more; PostgreSQL takes 65,535. Each chunk has a job of the batch."""
    many = [f"j{number}" for number in range(3 * CHUNK)]
    own = many[:: CHUNK + 1]
    table.sync(*own)
    batch_id, now = table.batch_id, table.now

    def parameters(connection: Connection) -> list[int]:
        with listening(connection) as executed:
            assert commands.states_of(connection, batch_id, many) == dict.fromkeys(own, State.PENDING)
            assert list(commands.cancel(connection, batch_id, [*many, "j0"], now)) == own
            assert commands.retry(connection, batch_id, [*reversed(many), "j0"], now) == own
        return [len(params) for _, params in executed]

    assert CHUNK < max(table.change(parameters)) <= 999
