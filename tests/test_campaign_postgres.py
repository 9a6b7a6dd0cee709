"""A slice of the campaign on PostgreSQL, and the proof that it can fail."""

from __future__ import annotations

import socket
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path

import pytest

from batchgen.simulator.ledger import INSERT_GENERATION, Ledger, timestamp
from tests.campaign.audit import AuditResult, judge
from tests.campaign.postgres import command
from tests.campaign.postgres.faults import FAULTS, LEASE_SECONDS
from tests.campaign.postgres.limits import (
    Recovery,
    affordable,
    crowded_submits,
    early_submits,
    excess_in_flight,
    measure_recovery,
)
from tests.campaign.postgres.rounds import Round, RoundTrial, rounds, run_round
from tests.campaign.postgres.table import BLOCK, summary, table, write
from tests.postgres import Server
from tests.readme_blocks import read_block
from tests.tcp_proxy import TcpProxy
from tests.test_campaign import GENERATION

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SLICE = Round(
    *("workers killed", 1), workers=3, jobs=12, per_minute=900, speed=400, fault_seconds=0.5, measures_rate=False
)


@pytest.mark.slow
def test_three_workers_that_are_killed_buy_nothing_twice_and_the_audit_sees_a_planted_duplicate(
    postgres: Server, migrated: str, tmp_path: Path
) -> None:
    folder = tmp_path / "round"
    trial = run_round(SLICE, postgres, migrated, folder, keeps_folder=True)
    assert trial.audit.problems == []
    assert trial.kills >= 1
    assert (trial.audit.accepted, trial.audit.duplicates, trial.audit.lost, trial.audit.delivered) == (12, 0, 0, 12)
    query = partial(postgres.ask, trial.url)
    paths = {
        row["generation_id"]: row["path"]
        for row in query("SELECT a.generation_id, o.path FROM attempts AS a JOIN outputs AS o ON o.attempt_id = a.id")
    }
    ledger = Ledger(folder / "service.ledger")
    first = ledger.accepted()[0]
    served = {generation: (folder / path).read_bytes() for generation, path in paths.items()}
    plant = replace(first, id="planted", file="planted.mp4", client_request_id="planted")
    with closing(sqlite3.connect(folder / "service.ledger")) as books, books:
        books.execute(INSERT_GENERATION, vars(plant))
    planted = judge(folder, ledger, {**served, "planted": b""}, query)
    ledger.close()
    assert (planted.accepted, planted.duplicates, planted.lost, planted.delivered) == (13, 1, 1, 12)
    assert any(problem.startswith("accepted more than once") for problem in planted.problems)


def test_the_proxy_holds_bytes_back_until_they_are_released_and_resets_connections() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, TcpProxy(listener.getsockname()[1]) as proxy:
        client = socket.create_connection(("127.0.0.1", proxy.port), 30)
        server, _ = listener.accept()
        with client, server:
            client.sendall(b"1")
            assert server.recv(9) == b"1"
            proxy.hold()
            server.sendall(b"2")
            client.settimeout(0.1)
            with pytest.raises(TimeoutError):
                client.recv(9)
            proxy.release()
            client.settimeout(30)
            assert client.recv(9) == b"2"
            proxy.cut()
            with pytest.raises(ConnectionResetError):
                server.recv(9)


def seconds(*offsets: float) -> list[datetime]:
    return [NOON + timedelta(seconds=offset) for offset in offsets]


@pytest.mark.parametrize(
    ("intents", "early"),
    [
        ([], 0),
        (seconds(0, 1, 2, 3), 0),
        (seconds(0, 0.96, 2), 0),  # within the tolerance of GCRA
        (seconds(0, 0.94), 1),
        (seconds(2, 0, 1), 0),
        (seconds(0, 10, 10, 11), 2),  # what was not used is lost, and the next is early as well
    ],
)
def test_a_request_that_was_admitted_before_the_rate_allowed_it_is_counted(intents: list[datetime], early: int) -> None:
    assert early_submits(intents, 60) == early


def test_a_minute_of_the_ledger_counts_what_was_claimed_in_it() -> None:
    at_once = [(moment, moment) for moment in seconds(*range(120))]
    assert crowded_submits(at_once, 60) == 0
    assert crowded_submits([*at_once, *((moment, moment) for moment in seconds(5.5, 70.5))], 60) == 1
    late = [(moment, moment + timedelta(seconds=30)) for moment in seconds(*range(10))]
    assert crowded_submits([*late, *at_once[30:]], 60) == 0


@pytest.mark.parametrize(("most", "excess"), [(3, 0), (2, 1), (1, 2)])
def test_the_fullest_moment_at_the_service_is_held_against_the_limit(most: int, excess: int) -> None:
    times = [(0, 10), (1, 5), (5, 20), (6, None), (9, 9.5)][:4]
    generations = [
        replace(
            GENERATION,
            created_at=timestamp(NOON + timedelta(seconds=begin)),
            finishes_at=None if end is None else timestamp(NOON + timedelta(seconds=end)),
        )
        for begin, end in times
    ]
    assert excess_in_flight(generations, most) == excess


@pytest.mark.parametrize(("number", "left"), [(0, 1), (3, 1), (4, 0), (5, -1), (6, -2)])
def test_the_charges_are_held_against_the_budget(number: int, left: int) -> None:
    assert affordable([Decimal("0.3")] * number, Decimal("1.3")) == left


def test_a_rate_that_is_back_in_time_and_one_that_is_not() -> None:
    steady = [number / 10 for number in range(1000)]
    gap = [moment for moment in steady if not 30 <= moment < 40]
    assert measure_recovery(gap, 30, 40) == Recovery(10, 10, 0)
    assert measure_recovery(gap, 30, 34) == Recovery(10, 9.8, 5.75)
    slower = [moment for moment in steady if moment < 30 or round(moment * 10) % 10]
    assert measure_recovery(slower, 30, 40) == Recovery(10, 9, None)


def test_a_campaign_has_rounds_of_every_fault_and_the_same_for_the_same_seed() -> None:
    chosen = list(rounds(command.ROUNDS, 1))
    assert chosen == list(rounds(command.ROUNDS, 1))
    assert {round_.name for round_ in chosen} == set(FAULTS)
    # Each fault meets both limits.
    assert {round_.name for round_ in chosen if not round_.measures_rate} == set(FAULTS)
    for round_ in chosen[:5]:
        assert list(rounds(1, round_.seed, round_.name)) == [round_], "its command repeats exactly this round"


def test_a_stopped_worker_s_lease_ends_before_it_goes_on() -> None:
    assert LEASE_SECONDS < 60, "a round must not take longer than the batch that it measures"


def test_the_table_adds_up_and_is_written_into_the_readme(tmp_path: Path) -> None:
    counts = AuditResult(accepted=10, delivered=9)
    trials = [
        RoundTrial("a", "", tmp_path, kills=2, audit=counts, recovery=Recovery(10, 9.9, 2.5)),
        RoundTrial("a", "", tmp_path, kills=1, audit=counts, recovery=Recovery(10, 10, 0.5)),
        RoundTrial("b", "", tmp_path, kills=0, audit=counts, over_limits=1, recovery=Recovery(10, 5, None)),
    ]
    assert table(trials).splitlines()[2:] == [
        "| a | 2 | 3 | 20 | 0 | 0 | 18 | 0 | 99% | 2.5 s |",
        "| b | 1 | 0 | 10 | 0 | 0 | 9 | 1 | 50% | never |",
        "| **all** | 3 | 3 | 30 | 0 | 0 | 27 | 1 | 50% | never |",
    ]
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n<!-- {BLOCK} -->\nstale\n<!-- /{BLOCK} -->\nafter\n")
    write(trials, 7, "PostgreSQL 15", readme)
    assert (read_block(readme, BLOCK) or "").startswith(f"{summary(trials)}\n\n| fault |")
    assert readme.read_text().startswith("before\n") and "stale" not in readme.read_text()


@pytest.mark.parametrize("arguments", [["--only", "no such fault"], ["--only", "workers killed", "--write"]])
def test_a_wrong_command_line_is_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(arguments)
    assert ended.value.code == 2
