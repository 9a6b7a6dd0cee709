"""`batchgen reconcile` at the simulator: it names every discrepancy, fetches what was paid for, and buys nothing."""

from __future__ import annotations

import csv
import json
import sqlite3
import subprocess
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from batchgen.clock import utcnow
from batchgen.simulator.faults import CHARGE_FAULTS
from batchgen.simulator.ledger import timestamp
from tests.batches import Bill, write_manifest
from tests.books.plants import add_payment
from tests.books.trial import ARGUMENTS, run_trial
from tests.conftest import Command, Launch, Simulate
from tests.disks import small_disk
from tests.events import check_events
from tests.waiting import rows, until

pytestmark = pytest.mark.slow

PRICE = Decimal("1.47")
OPEN = ["amount_differs", "charged_twice", "late", "late", "late", "unidentified", "unknown"]
"""What does not close after each fault of the bill once: of a foreign charge the log may
not have the row yet, and one names no generation. Without its reference, a charge is missing elsewhere."""


def test_every_plant_in_a_few_hundred_attempts_is_named_and_nothing_else(
    tmp_path: Path, simulate: Simulate, batchgen: Command
) -> None:
    simulator = simulate("--limits", '{"log_requests_per_minute": null}', speed=100_000)

    def run(_folder: Path) -> subprocess.CompletedProcess[str]:
        return batchgen(*ARGUMENTS, **simulator.environment)

    trial = run_trial(tmp_path, simulator.ledger, simulator.environment, 240, 30, run)
    assert not trial.problems
    assert {row.found for row in trial.rows.values()} == {8, 8 * 7}, "eight of each kind, and the rest in order"


def everything(database: Path) -> list[Any]:
    return [rows(database, f"SELECT * FROM {name}") for name in ("jobs", "attempts", "outputs", "events", "batches")]


def test_the_faults_of_the_bill_are_named_and_a_second_time_nothing_changes(
    tmp_path: Path, simulate: Simulate, batchgen: Command
) -> None:
    faults: dict[str, Any] = {name: {"count": 1} for name in CHARGE_FAULTS if name != "charged_failure"}
    faults["late"]["seconds"] = 1e9
    simulator = simulate("--lag", "0", faults={"billing": faults})
    database, number = tmp_path / "batchgen.db", len(CHARGE_FAULTS) + 1
    write_manifest(tmp_path / "m.yaml", number)
    ended = batchgen("run", "m.yaml", **simulator.environment)
    assert ended.returncode == 0, "what the bill says never fails a run"
    assert "2 charges do not agree: `batchgen reconcile m.yaml` says why" in ended.stderr

    with closing(sqlite3.connect(simulator.ledger)) as books, books:
        add_payment(books, "TOPUP", "PAYMENT", timestamp(utcnow()), 20_000_000)
        add_payment(books, "CHARGE", "CREDITS_EXPIRED", timestamp(utcnow()), 1_000_000)
    httpx.put(f"{simulator.control_url}/faults", json={"billing": {"429": {"count": 1, "retry_after": 0}}})

    first = batchgen("reconcile", "m.yaml", "--json", "--csv", "bill.csv", **simulator.environment)
    *items, result = [json.loads(line) for line in first.stdout.splitlines()]
    assert first.returncode == 3, first.stderr
    assert sorted(item["settlement"] for item in items) == OPEN
    assert all(item["hint"] for item in items)
    sums = {settlement: Decimal(tally["charged_usd"]) for settlement, tally in result["settlements"].items()}
    assert sums["charged_twice"] == sums["amount_differs"] == 2 * PRICE
    assert sums["delivered"] == 4 * PRICE, "one in parts, one beside a foreign charge, two without a fault"
    assert sums["refunded"] == 0
    assert sums.pop("balance") == Decimal(result["balance_usd"]) == Decimal("9.50")
    with (tmp_path / "bill.csv").open(encoding="utf-8-sig", newline="") as file:
        charged = sum(Decimal(row["charged_usd"] or 0) for row in csv.DictReader(file))
    assert charged == Decimal(result["charged_usd"]) == sum(sums.values(), Decimal(0))
    spent = Decimal(rows(database, "SELECT spent_nanousd FROM batches")[0]["spent_nanousd"]).scaleb(-9)
    assert spent == charged - 2 * PRICE + 3 * PRICE, "without the two strangers, with what is not charged yet"

    before = everything(database)
    again = batchgen("reconcile", "m.yaml", "--json", "--csv", "bill.csv", **simulator.environment)
    assert (again.stdout, again.returncode) == (first.stdout, 3)
    spoken = batchgen("reconcile", "m.yaml", **simulator.environment)
    assert "→ ask the service to put it right, naming the generation" in spoken.stdout
    assert spoken.stdout.endswith("7 items do not agree\n")
    assert everything(database) == before


def test_charges_that_name_no_generation_may_be_those_of_different_jobs(
    tmp_path: Path, simulate: Simulate, batchgen: Command
) -> None:
    simulator = simulate("--lag", "0", faults={"billing": {"null_reference": {"count": 2}}})
    write_manifest(tmp_path / "m.yaml", 3)
    assert batchgen("run", "m.yaml", **simulator.environment).returncode == 0
    bill = batchgen("reconcile", "m.yaml", **simulator.environment).stdout
    assert bill.count("it may be that of job") == 2
    assert bill.count("it may be that of job clip-0") == bill.count("it may be that of job clip-1") == 1


def test_what_was_paid_for_and_is_not_here_is_fetched_and_no_other_request_is_sent(
    tmp_path: Path, simulate: Simulate, batchgen: Command
) -> None:
    simulator = simulate("--lag", "0")
    database = tmp_path / "batchgen.db"
    write_manifest(tmp_path / "m.yaml", 2)
    assert batchgen("run", "m.yaml", **simulator.environment).returncode == 0
    write_manifest(tmp_path / "m.yaml", 3)  # one of them was never sent, and must not be
    (tmp_path / "m/clip-0.mp4").unlink()
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(
            "UPDATE jobs SET state = 'failed', delivered_at = NULL, failed_at = created_at, error_class = 'no_file'"
            " WHERE key = 'clip-0'"
        )
        connection.execute("DELETE FROM outputs WHERE path = 'm/clip-0.mp4'")
    ended = batchgen("reconcile", "m.yaml", **simulator.environment)
    assert ended.returncode == 0, ended.stdout
    assert "asked the service again for what was paid for: clip-0" in ended.stderr
    assert ended.stdout.endswith("the bill agrees\n")
    assert (tmp_path / "m/clip-0.mp4").stat().st_size > 0
    assert len(Bill(simulator.ledger).accepted) == len(Bill(simulator.ledger).requests("create")) == 2


def test_where_the_disk_takes_no_file_it_ends_as_a_run_does_and_no_charge_is_disputed(
    tmp_path: Path, simulate: Simulate, launch: Launch, batchgen: Command
) -> None:
    simulator = simulate("--lag", "0", speed=60)
    write_manifest(tmp_path / "m.yaml", 2)
    running = launch("run", "m.yaml", **simulator.environment)
    until(lambda: len(Bill(simulator.ledger).accepted) == 2)
    with small_disk(tmp_path / "m", 1_000_000, read_only=True):
        run = running.end()
        ended = batchgen("reconcile", "m.yaml", **simulator.environment)
        lines = batchgen("reconcile", "m.yaml", "--json", **simulator.environment).stdout.splitlines()
    reason = ".mp4: Read-only file system. Let it be written, then run the same command: what is paid waits"
    assert (run.returncode, ended.returncode) == (8, 8)
    assert all(reason in command.stdout + command.stderr for command in (run, ended))
    assert "not agree" not in run.stdout + run.stderr, "they were charged as they should be, and only wait"
    assert "  2  $2.94  charged, and its file is not here" in ended.stdout
    assert [json.loads(line)["event"] for line in lines[-2:]] == ["reconciled", "error"]
    assert batchgen("reconcile", "m.yaml", **simulator.environment).returncode == 0
    assert len(Bill(simulator.ledger).accepted) == len(list((tmp_path / "m").glob("*.mp4"))) == 2


def test_before_anything_was_sent_there_is_nothing_to_compare(
    tmp_path: Path, simulate: Simulate, batchgen: Command
) -> None:
    simulator = simulate()
    write_manifest(tmp_path / "m.yaml", 1)
    assert batchgen("reconcile", "m.yaml", **simulator.environment).returncode == 2
    assert batchgen("run", "m.yaml", "--until", "2020-01-01T00:00", **simulator.environment).returncode == 5
    ended = batchgen("reconcile", "m.yaml", **simulator.environment)
    assert (ended.returncode, "this job table has sent nothing with this key" in ended.stdout) == (3, True)


def test_a_new_table_in_the_place_of_one_that_is_lost_does_not_say_that_the_bill_closes(
    tmp_path: Path, simulate: Simulate, batchgen: Command
) -> None:
    simulator = simulate("--lag", "0")
    write_manifest(tmp_path / "m.yaml", 1)
    assert batchgen("run", "m.yaml", **simulator.environment).returncode == 0
    for file in tmp_path.glob("batchgen.db*"):
        file.unlink()
    assert batchgen("run", "m.yaml", **simulator.environment).returncode == 2
    ended = batchgen("reconcile", "m.yaml", "--json", **simulator.environment)
    (event,) = check_events(ended.stdout)
    assert (ended.returncode, event["transactions"], event["closes"]) == (3, None, None)
    assert event["next"] == "batchgen run m.yaml"
