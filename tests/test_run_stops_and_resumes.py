"""Stopping a run anywhere: signals, kill -9; the same command goes on, and nothing is bought or fetched twice."""

from __future__ import annotations

import asyncio
import signal
from datetime import datetime
from pathlib import Path

import pytest
from PIL import Image

from batchgen.simulator.service import Simulation
from tests.batches import MASTER, TEXT_MODEL, Bill, check_delivered, write_manifest
from tests.conftest import Command, Launch, Simulate
from tests.listening import listening_on_a_thread, read_head
from tests.serving import served
from tests.waiting import JOBS, RESUMABLE, rows, states, until
from tests.wire import answer

SENT = ("generating", "downloading", "done")


def number_in(database: Path, *wanted: str) -> int:
    return sum(number for state, number in states(database).items() if state in wanted)


def write_large(folder: Path, jobs: int) -> Path:
    """A manifest whose videos are of 1.6 MB each: noise cannot be compressed."""
    Image.effect_noise((1200, 1200), 120).save(folder / "noise.png")
    header = {"defaults": {"model": MASTER, "duration": 10, "image_url": "noise.png"}}
    return write_manifest(folder / "m.yaml", [{"id": f"n{n}", "prompt": f"Noise {n}."} for n in range(jobs)], **header)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_one_signal_finishes_what_is_on_the_wire_and_says_how_to_go_on(
    number: signal.Signals, code: int, tmp_path: Path, launch: Launch, batchgen: Command
) -> None:
    ledger = tmp_path / "simulator.ledger"
    database = tmp_path / "batchgen.db"
    write_manifest(tmp_path / "m.yaml", 24)
    with served(Simulation(speed=2000, latency_seconds=0.3, instant=True, ledger=ledger)) as environment:
        running = launch("run", "m.yaml", "--max-cost", "90", **environment)
        until(lambda: number_in(database, "submitting"))
        running.signal(number)
        ended = running.end()
        assert (ended.returncode, ended.stdout.count("\n")) == (code, 1)
        assert "Next: `batchgen run m.yaml --max-cost 90`" in ended.stderr, "without its cap, it would spend more"
        assert "interrupted; the same command goes on" in ended.stdout
        assert "stopping: finishing what is on the wire" in ended.stderr
        assert "Traceback" not in ended.stderr
        stopped = states(database)
        assert set(stopped) <= {"pending", *SENT}
        assert stopped["pending"] > 0
        assert len(Bill(ledger).accepted) == number_in(database, *SENT) > 0
        assert not rows(database, "SELECT * FROM jobs WHERE leased_by IS NOT NULL")
        assert rows(database, "SELECT exit_code FROM runs") == [{"exit_code": code}]

        resumed = batchgen("run", "m.yaml", **environment)
    assert resumed.returncode == 0
    assert (len(Bill(ledger).accepted), Bill(ledger).duplicates) == (24, 0)
    check_delivered(tmp_path, database)


@pytest.mark.slow
def test_a_poll_that_is_answered_byte_by_byte_does_not_hold_up_an_interrupted_run(
    tmp_path: Path, launch: Launch
) -> None:
    dripped = 0
    body = b'{"status": "queued"}' + b" " * 380  # takes 20 s: less than a poll may, more than anyone waits

    async def service(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal dripped
        head = await read_head(reader)
        if head.startswith(b"POST"):
            writer.write(answer(201, {"id": "g-1", "status": "queued"}))
        elif b"/models/metrics" in head:  # so quick a model is polled soon
            writer.write(answer(200, {"models": [{"alias": TEXT_MODEL, "metrics": {"duration_ms": {"p50": 100}}}]}))
        elif b"generation_id=" not in head:
            writer.write(answer(404, {}))
        else:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
            for byte in body:
                writer.write(bytes([byte]))
                await writer.drain()
                dripped += 1
                await asyncio.sleep(0.05)

    write_manifest(tmp_path / "m.yaml", 1)
    with listening_on_a_thread(service) as port:
        running = launch("run", "m.yaml", AIMLAPI_BASE_URL=f"http://127.0.0.1:{port}", AIMLAPI_API_KEY="key")
        until(lambda: dripped)
        running.signal(signal.SIGINT)
        ended = running.end()
    assert ended.returncode == 130, ended.stderr
    assert dripped < len(body)
    held = rows(tmp_path / "batchgen.db", "SELECT state, leased_by FROM jobs")
    assert held == [{"state": "generating", "leased_by": None}]


@pytest.mark.slow
def test_a_second_signal_leaves_at_once_and_the_lost_answer_is_found_again(
    tmp_path: Path, simulate: Simulate, launch: Launch, batchgen: Command
) -> None:
    simulator = simulate("--lag", "0", faults={"create": {"accept_then_stall": {"count": 1}}})
    database = tmp_path / "batchgen.db"
    write_manifest(tmp_path / "m.yaml", 1)
    running = launch("run", "m.yaml", "--log-file", "log", **simulator.environment)
    until(lambda: Bill(simulator.ledger).accepted)
    running.signal(signal.SIGINT)
    until(lambda: "stopping:" in (tmp_path / "log").read_text())
    assert running.process.poll() is None
    running.signal(signal.SIGINT)
    ended = running.end()
    assert ended.returncode == 130
    assert "Traceback" not in ended.stderr
    assert states(database) == {"unconfirmed": 1}

    resumed = batchgen("run", "m.yaml", **simulator.environment)
    assert resumed.returncode == 0, resumed.stderr
    assert "adopted" in resumed.stderr
    assert len(Bill(simulator.ledger).accepted) == 1
    check_delivered(tmp_path, database)


def test_killed_at_every_stage_in_turn_it_pays_once_and_delivers_all(
    tmp_path: Path, launch: Launch, batchgen: Command
) -> None:
    ledger, database = tmp_path / "simulator.ledger", tmp_path / "batchgen.db"
    # This log is complete at once, so that what is not in it was never sent and may be sent again.
    limits = {"submits_per_minute": 1200, "in_flight": 6, "unconfirmed_minutes": 0.02, "on_unconfirmed": "resubmit"}
    manifest = write_manifest(tmp_path / "m.yaml", 16, limits=limits)
    moments = [
        lambda: number_in(database, "pending"),
        lambda: number_in(database, "submitting"),
        lambda: len(Bill(ledger).accepted) > 2,
        lambda: number_in(database, "generating") > 1,  # unconfirmed requests hold some of the places
        lambda: number_in(database, "downloading", "done"),
        lambda: number_in(database, "done") > 3,
        lambda: number_in(database, "done") > 7,
        lambda: number_in(database, "done") > 11,
    ]
    # An answer takes a moment, in which a request is seen to be on the wire.
    simulation = Simulation(speed=300, latency_seconds=0.05, instant=True, lag_seconds=0, ledger=ledger)
    with served(simulation) as environment:
        for moment in moments:
            running = launch("run", manifest, **environment)
            until(moment)
            running.signal(signal.SIGKILL)
            assert running.end().returncode == -signal.SIGKILL
        ended = batchgen("run", manifest, **environment)
    assert ended.returncode == 0, ended.stderr
    check_delivered(tmp_path, database)
    bill = Bill(ledger)
    assert (len(bill.accepted), bill.duplicates) == (16, 0)
    delivered = {row["generation_id"]: row["delivered_at"] for row in rows(database, JOBS)}
    assert delivered.keys() == {row["id"] for row in bill.accepted}
    for request in bill.requests("cdn"):
        at = datetime.fromisoformat(request["at"])
        assert at < datetime.fromisoformat(delivered[request["generation_id"]]), "fetched again after it was whole"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["killed", "interrupted"])
def test_half_a_file_of_a_run_that_ended_is_continued_by_range(
    number: signal.Signals, tmp_path: Path, simulate: Simulate, launch: Launch, batchgen: Command
) -> None:
    simulator = simulate(renders=True, faults={"cdn": {"slow": {"seconds": 2, "count": 1}}})
    manifest = write_large(tmp_path, 1)
    running = launch("run", manifest, **simulator.environment)
    until(lambda: rows(tmp_path / "batchgen.db", RESUMABLE))
    (part,) = until(lambda: list((tmp_path / "m").glob("n0.mp4.*.part")))
    until(lambda: part.stat().st_size)  # the row names the version before the first bytes are there
    running.signal(number)
    assert running.end().returncode == (130 if number == signal.SIGINT else -number)
    assert 0 < part.stat().st_size < 1_500_000

    ended = batchgen("run", manifest, **simulator.environment)
    assert ended.returncode == 0, ended.stderr
    assert [row["status"] for row in Bill(simulator.ledger).requests("cdn")][-1] == 206
    check_delivered(tmp_path, tmp_path / "batchgen.db")


@pytest.mark.slow
def test_two_runs_at_once_share_the_work(tmp_path: Path, simulate: Simulate, launch: Launch) -> None:
    simulator = simulate(speed=1_000)
    database = tmp_path / "batchgen.db"
    manifest = write_manifest(tmp_path / "m.yaml", 40, limits={"submits_per_minute": 2400, "in_flight": 8})
    both = [launch("run", manifest, **simulator.environment) for _ in range(2)]
    ended = [running.end() for running in both]
    assert [each.returncode for each in ended] == [0, 0], ended[0].stderr + ended[1].stderr
    bill = Bill(simulator.ledger)
    assert (len(bill.accepted), bill.duplicates, len(bill.requests("create"))) == (40, 0, 40)
    assert len(bill.requests("cdn")) == 40
    check_delivered(tmp_path, database)


@pytest.mark.slow
def test_when_one_of_two_runs_is_killed_the_other_takes_over_at_once(
    tmp_path: Path, simulate: Simulate, launch: Launch
) -> None:
    faults = {"create": {"accept_then_stall": {"count": 1}}}
    simulator = simulate("--lag", "0", faults=faults, speed=1_000)
    database = tmp_path / "batchgen.db"
    manifest = write_manifest(tmp_path / "m.yaml", 6)
    first = launch("run", manifest, **simulator.environment)
    holding = until(lambda: rows(database, "SELECT leased_by FROM jobs WHERE state = 'submitting'"))
    until(lambda: Bill(simulator.ledger).accepted)
    second = launch("run", manifest, **simulator.environment)
    until(lambda: rows(database, "SELECT * FROM runs")[1:])
    first.signal(signal.SIGKILL)
    ended = second.end()
    assert holding
    assert ended.returncode == 0, ended.stderr
    assert (len(Bill(simulator.ledger).accepted), Bill(simulator.ledger).duplicates) == (6, 0)
    check_delivered(tmp_path, database)
