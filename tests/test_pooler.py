"""Runs on PostgreSQL behind a pooler in transaction mode, where no session is a run's own."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from batchgen.jobtable.database import Database
from batchgen.jobtable.run_lock import locked_runs
from tests.batches import Bill, write_manifest
from tests.conftest import Launch, Simulate
from tests.postgres import Server
from tests.test_run_lock import END_LEASES, check_delivered, locked
from tests.transaction_pooler import TransactionPooler
from tests.waiting import until

pytestmark = pytest.mark.slow


@contextmanager
def pooled(server: Server, place: str, size: int = 3) -> Iterator[str]:
    """The URL of a database, through a pooler with at most `size` sessions of the server."""
    with TransactionPooler(server.port, size) as pooler:
        yield place.replace(f":{server.port}/", f":{pooler.port}/")


@pytest.mark.parametrize("size", [1, 2, 8])
def test_a_run_holds_no_lock_there_and_says_so(
    size: int, postgres: Server, place: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pooled(postgres, place, size) as address, Database(place) as other:
        with locked(address) as lock:
            assert not lock.is_possible
            assert other.read_now(locked_runs) == set()
        assert "pooler in transaction mode" in caplog.text
        with locked(place) as lock:
            assert lock.is_possible


def test_two_runs_there_share_a_batch_and_a_killed_ones_jobs_are_taken_over_when_its_leases_end(
    postgres: Server, place: str, tmp_path: Path, launch: Launch, simulate: Simulate
) -> None:
    service = simulate("--lag", "0", speed=1_000)
    bill = Bill(service.ledger)
    lost = {"unconfirmed_minutes": 0.02, "on_unconfirmed": "resubmit"}
    write_manifest(tmp_path / "m.yaml", 12, limits={"submits_per_minute": 600, "in_flight": 4, **lost})
    with pooled(postgres, place) as address:
        runs = [launch("run", "m.yaml", **service.environment, BATCHGEN_DB=address) for _ in range(2)]
        until(lambda: len(bill.accepted) >= 4)
        runs[0].signal(signal.SIGKILL)
        runs[0].end()
        postgres.ask(place, END_LEASES)
        ended = runs[1].end()
    assert ended.returncode == 0, ended.stderr
    assert "pooler in transaction mode" in ended.stderr
    assert bill.duplicates == 0
    assert len(bill.accepted) == 12
    check_delivered(postgres, place, tmp_path, 12)
