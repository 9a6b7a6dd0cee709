"""Limits, throttling and a blocked account: what the service's own ledger says of a run."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import httpx2 as httpx
import pytest

from batchgen.simulator.service import AccountLimits, Simulation
from tests.batches import Bill, check_delivered, write_manifest
from tests.conftest import Command, Launch, Simulate, Simulator
from tests.serving import served
from tests.waiting import rows, states, until

pytestmark = pytest.mark.slow

COUNTED = """
SELECT count(*) AS attempts FROM attempts WHERE outcome NOT IN ('throttled', 'not_sent', 'blocked') GROUP BY job_id"""
"""Of every job, the attempts that could have been accepted."""


def moments(rows_: list[dict[str, object]], column: str) -> list[datetime]:
    return sorted(datetime.fromisoformat(str(row[column])) for row in rows_)


def test_submits_per_minute_and_videos_in_flight_are_never_exceeded(
    tmp_path: Path, simulate: Simulate, batchgen: Command
) -> None:
    simulator = simulate(speed=1_200)
    per_minute, in_flight = 1500, 3
    write_manifest(tmp_path / "m.yaml", 24, limits={"submits_per_minute": per_minute, "in_flight": in_flight})
    ended = batchgen("run", "m.yaml", **simulator.environment)
    assert ended.returncode == 0, ended.stderr
    bill = Bill(simulator.ledger)
    assert len(bill.accepted) == 24

    sent = moments(bill.accepted, "created_at")
    # GCRA tolerates early requests, and none arrives to the millisecond: two of ten may be due to that.
    burst = 2
    for first, last in zip(sent, sent[10:], strict=False):
        assert last - first > timedelta(seconds=60 / per_minute * (10 - burst))
    assert sent[-1] - sent[0] > timedelta(seconds=60 / per_minute * (24 - burst - 1))

    changes = [(row["created_at"], 1) for row in bill.accepted] + [(row["finishes_at"], -1) for row in bill.accepted]
    running = most = 0
    for _, change in sorted(changes):
        running += change
        most = max(most, running)
    assert most == in_flight


def test_a_429_is_waited_out_as_asked_and_costs_no_attempt(
    tmp_path: Path, simulate: Simulate, batchgen: Command
) -> None:
    faults = {"create": {"throttle_429": {"count": 2, "retry_after": 2}}}
    simulator = simulate(faults=faults)
    write_manifest(tmp_path / "m.yaml", 6)
    ended = batchgen("run", "m.yaml", **simulator.environment)
    assert ended.returncode == 0, ended.stderr
    assert "back to pending: 429" in ended.stderr
    creates = Bill(simulator.ledger).requests("create")
    refused = max(moments([row for row in creates if row["status"] == 429], "at"))
    later = [at for at in moments(creates, "at") if at > refused + timedelta(seconds=0.5)]
    assert later[0] - refused >= timedelta(seconds=1.9)
    database = tmp_path / "batchgen.db"
    assert {row["attempts"] for row in rows(database, COUNTED)} == {1}
    assert len(rows(database, "SELECT * FROM attempts WHERE outcome = 'throttled'")) == 2
    check_delivered(tmp_path, database)


def test_an_account_with_tighter_limits_than_the_manifest_still_delivers_everything(
    tmp_path: Path, batchgen: Command
) -> None:
    ledger = tmp_path / "simulator.ledger"
    limits = AccountLimits(requests_per_minute=300, in_flight=3)
    with served(Simulation(speed=600, instant=True, ledger=ledger, limits=limits)) as environment:
        write_manifest(tmp_path / "m.yaml", 8)
        ended = batchgen("run", "m.yaml", **environment)
    assert ended.returncode == 0, ended.stderr
    assert (len(Bill(ledger).accepted), Bill(ledger).duplicates) == (8, 0)
    assert [row for row in Bill(ledger).requests("create") if row["status"] == 429]
    assert {row["attempts"] for row in rows(tmp_path / "batchgen.db", COUNTED)} == {1}
    check_delivered(tmp_path, tmp_path / "batchgen.db")


@pytest.mark.parametrize(
    "account",
    [
        AccountLimits(in_flight=6),
        AccountLimits(creates_per_minute=4),
        AccountLimits(creates_per_minute=4, in_flight=10),
        AccountLimits(requests_per_minute=20),
    ],
    ids=["in flight", "rate", "both", "all requests together"],
)
def test_learned_limits_deliver_everything_with_few_refusals(
    tmp_path: Path, batchgen: Command, account: AccountLimits
) -> None:
    ledger, database = tmp_path / "simulator.ledger", tmp_path / "batchgen.db"
    # Slow enough that a busy machine, too, fills the places before the first generation ends; they are filled thrice.
    speed, jobs = (100, 18) if account.in_flight == 6 else (400, 30)
    with served(Simulation(speed=speed, instant=True, ledger=ledger, limits=account)) as environment:
        write_manifest(tmp_path / "m.yaml", jobs, limits="auto")
        ended = batchgen("run", "m.yaml", **environment)
    assert ended.returncode == 0, ended.stderr
    creates = [row["status"] for row in Bill(ledger).requests("create")]
    assert creates.count(429) <= jobs / 3
    assert (len(Bill(ledger).accepted), Bill(ledger).duplicates) == (jobs, 0)
    assert {row["attempts"] for row in rows(database, COUNTED)} == {1}
    (learned,) = rows(database, "SELECT * FROM limits WHERE kind = 'in_flight'")
    assert environment["AIMLAPI_API_KEY"] not in str(dict(learned))
    if account.in_flight == 6:  # a busy machine may stay below a rate
        assert creates.count(429)
        assert learned["threshold"] in (6, 7)
    check_delivered(tmp_path, database)


def test_a_refused_key_fails_no_job_and_a_valid_one_completes_the_batch(tmp_path: Path, batchgen: Command) -> None:
    ledger = tmp_path / "simulator.ledger"
    with served(Simulation(speed=6000, instant=True, ledger=ledger, key="the-right-key")) as environment:
        write_manifest(tmp_path / "m.yaml", 5)
        refused = batchgen("run", "m.yaml", **environment)
        assert refused.returncode == 4
        assert "5 pending" in refused.stdout
        assert "Set a valid AIMLAPI_API_KEY, then run the same command" in refused.stdout
        assert environment["AIMLAPI_API_KEY"] not in refused.stdout + refused.stderr
        assert states(tmp_path / "batchgen.db") == {"pending": 5}
        right = batchgen("run", "m.yaml", **{**environment, "AIMLAPI_API_KEY": "the-right-key"})
    assert right.returncode == 0, right.stderr
    assert len(Bill(ledger).accepted) == 5
    check_delivered(tmp_path, tmp_path / "batchgen.db")


def test_when_the_key_is_refused_midway_paid_generations_are_still_collected(
    tmp_path: Path, simulate: Simulate, launch: Launch
) -> None:
    simulator = simulate(speed=400)
    database = tmp_path / "batchgen.db"
    write_manifest(tmp_path / "m.yaml", 8, limits={"submits_per_minute": 240, "in_flight": 4})
    running = launch("run", "m.yaml", **simulator.environment)
    until(lambda: states(database).get("generating", 0) > 1)
    put_faults(simulator, {"create": {"auth_401": 1}})
    ended = running.end()
    assert ended.returncode == 4
    assert "Next: with a valid key, the same command goes on: `batchgen run m.yaml`" in ended.stderr
    collected = states(database)
    assert set(collected) == {"done", "pending"}
    assert collected["done"] == len(Bill(simulator.ledger).accepted)
    put_faults(simulator, {})
    ended = launch("run", "m.yaml", "--submits-per-minute", "6000", **simulator.environment).end()
    assert ended.returncode == 0, ended.stderr
    assert (len(Bill(simulator.ledger).accepted), Bill(simulator.ledger).duplicates) == (8, 0)


def test_without_credits_paid_generations_are_collected_and_the_next_run_goes_on(
    tmp_path: Path, batchgen: Command
) -> None:
    ledger, database = tmp_path / "simulator.ledger", tmp_path / "batchgen.db"
    write_manifest(tmp_path / "m.yaml", 6, limits={"submits_per_minute": 6000, "in_flight": 2})
    poor = AccountLimits(balance_usd=Decimal(5))  # enough for three
    with served(Simulation(speed=2000, instant=True, ledger=ledger, limits=poor)) as environment:
        ended = batchgen("run", "m.yaml", **environment)
    assert ended.returncode == 4
    assert "Top it up, then run the same command" in ended.stdout
    assert "Next: once the account is topped up, the same command goes on: `batchgen run m.yaml`" in ended.stderr
    assert states(database) == {"done": 3, "pending": 3}
    with served(Simulation(speed=2000, instant=True, ledger=ledger)) as environment:
        ended = batchgen("run", "m.yaml", **environment)
    assert ended.returncode == 0, ended.stderr
    assert (len(Bill(ledger).accepted), Bill(ledger).duplicates) == (6, 0)
    check_delivered(tmp_path, database)


def put_faults(simulator: Simulator, faults: dict[str, object]) -> None:
    httpx.put(f"{simulator.control_url}/faults", json=faults).raise_for_status()
