"""Workers: runs on whatever is enrolled in a job table, without the manifests."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from batchgen import clock
from batchgen.api.opening import enroll_only
from batchgen.api.worker import BATCHES_AT_ONCE, Worker
from batchgen.jobtable.database import Database
from batchgen.limits import steering
from batchgen.testing.proxy import proxied
from tests.batches import Bill, write_image, write_manifest
from tests.conftest import Command, Launch, Simulate
from tests.events import check_events
from tests.waiting import rows, states, until

pytestmark = pytest.mark.slow


def test_a_worker_keeps_to_the_cap_of_a_manifest_and_works_on_other_batches_meanwhile(
    tmp_path: Path, simulate: Simulate, batchgen: Command
) -> None:
    simulator, database = simulate(), tmp_path / "batchgen.db"
    fast = {"submits_per_minute": 60_000, "in_flight": 100}
    write_manifest(tmp_path / "capped.yaml", 3, limits={**fast, "max_cost": 3})
    write_manifest(tmp_path / "free.yaml", [{"id": f"f-{n}", "prompt": f"Free {n}."} for n in range(2)], limits=fast)
    for name in ("capped.yaml", "free.yaml"):
        assert batchgen("run", name, "--enroll", "--json").returncode == 0
    ended = batchgen("worker", "--db", database, "--json", **simulator.environment)
    assert ended.returncode == 5, ended.stderr
    events = check_events(ended.stdout)
    codes = {event["batch"]: event["exit_code"] for event in events if event["event"] == "worker"}
    assert codes == {"capped": 5, "free": 0, "": 5}
    moved = {(event["batch"], event["id"]) for event in events if event["event"] == "moved"}
    assert ("free", "f-1") in moved
    assert states(database) == {"done": 4, "pending": 1}


def test_a_worker_on_a_table_that_was_moved_with_its_manifest_delivers_beside_it(
    tmp_path: Path, simulate: Simulate, batchgen: Command
) -> None:
    simulator = simulate()
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    write_manifest(before / "m.yaml", 1, output="{{ id }}.mp4")
    batchgen("run", before / "m.yaml", "--enroll")
    before.rename(after)
    ended = batchgen("worker", "--db", after / "batchgen.db", **simulator.environment)
    assert ended.returncode == 0, ended.stderr
    assert [path.parent for path in tmp_path.rglob("*.mp4")] == [after]


def test_a_worker_does_not_send_a_job_whose_image_was_edited_since(
    tmp_path: Path, simulate: Simulate, batchgen: Command
) -> None:
    simulator, database = simulate(), tmp_path / "batchgen.db"
    write_image(tmp_path / "dusk.png", 400, 300)
    job = {"id": "dusk", "model": "klingai/v2.1-master-image-to-video", "prompt": "Dusk.", "image_url": "dusk.png"}
    write_manifest(tmp_path / "m.yaml", [job])
    batchgen("run", "m.yaml", "--enroll")
    write_image(tmp_path / "dusk.png", 400, 300, "red")
    ended = batchgen("worker", "--db", database, **simulator.environment)
    assert ended.returncode == 3, ended.stderr
    assert rows(database, "SELECT state, fingerprint FROM jobs")[0]["state"] == "pending"
    assert not rows(database, "SELECT * FROM attempts")


def test_a_worker_that_stays_says_that_it_waits_and_begins_what_is_enrolled_then(
    tmp_path: Path, simulate: Simulate, launch: Launch, batchgen: Command
) -> None:
    simulator, database = simulate(), tmp_path / "batchgen.db"
    with Database(database):
        running = launch("worker", "--stay", "--json", **simulator.environment)
    assert running.process.stdout
    (first,) = check_events(running.process.stdout.readline())
    assert (first["step"], first["exit_code"], "it waits for jobs" in first["message"]) == ("idle", None, True)
    write_manifest(tmp_path / "m.yaml", 1)
    assert batchgen("run", "m.yaml", "--enroll").returncode == 0
    until(lambda: states(database) == {"done": 1})
    while (event := check_events(running.process.stdout.readline())[0])["event"] != "worker" or event["step"] != "idle":
        pass
    running.signal(signal.SIGTERM)
    assert running.end().returncode == 143


def test_what_was_paid_for_under_another_name_is_not_bought_by_a_worker(
    tmp_path: Path, simulate: Simulate, batchgen: Command
) -> None:
    simulator, database = simulate(), tmp_path / "batchgen.db"
    write_manifest(tmp_path / "m.yaml", [{"id": "old", "prompt": "One."}])
    assert batchgen("run", "m.yaml", **simulator.environment).returncode == 0
    write_manifest(tmp_path / "m.yaml", [{"id": "new", "prompt": "One."}])
    batchgen("run", "m.yaml", "--enroll")
    ended = batchgen("worker", "--db", database, **simulator.environment)
    assert ended.returncode == 2, ended.stderr
    assert "m.yaml --changed keep --db " in ended.stderr
    assert len(rows(database, "SELECT * FROM attempts")) == 1


def test_the_last_line_of_a_worker_that_the_cap_stops_says_what_to_do(tmp_path: Path, batchgen: Command) -> None:
    write_manifest(tmp_path / "m.yaml", 1, limits={"max_cost": 0.01}, service="simulator")
    batchgen("run", "m.yaml", "--enroll")
    steps = [event for event in check_events(batchgen("worker", "--json").stdout) if event["event"] == "worker"]
    hints = {event["step"]: (event["exit_code"], event["hint"]) for event in steps[1:]}
    expected = (5, "with a higher max_cost, the same command goes on")
    assert hints == {"ended": expected, "idle": expected}
    worked = batchgen("worker")
    assert "0.01 USD does not pay the next job" in worked.stdout
    assert "Next: " not in worked.stderr, "how the cap is raised stands in the message"
    batchgen("set", "m.yaml", "--simulate", "max_cost=0.02")
    step = "raise the limit where it was set; then the same command goes on: `batchgen set m.yaml"
    assert f"m-simulated: Next: {step}" in batchgen("worker").stderr.replace(f"{tmp_path}/", "")


@pytest.mark.parametrize(("said", "bought"), [("keep", 2), ("redo", 4)])
def test_what_is_said_of_repeats_when_they_are_enrolled_holds_for_the_workers(
    said: str, bought: int, tmp_path: Path, simulate: Simulate, batchgen: Command
) -> None:
    simulator = simulate("--lag", "0")
    names = [{"id": f"a-{n}", "prompt": f"A {n}."} for n in range(2)]
    write_manifest(tmp_path / "m.yaml", names)
    assert batchgen("run", "m.yaml", **simulator.environment).returncode == 0
    write_manifest(tmp_path / "m.yaml", [{**job, "id": f"new-{job['id']}"} for job in names])
    assert batchgen("run", "m.yaml", "--enroll", "--changed", said).returncode == 0
    worked = batchgen("worker", **simulator.environment)
    assert (worked.returncode, len(Bill(simulator.ledger).accepted)) == (0, bought), worked.stderr


def test_paused_batches_leave_a_worker_its_places_for_others(
    tmp_path: Path, simulate: Simulate, launch: Launch, batchgen: Command
) -> None:
    simulator, database = simulate(), tmp_path / "batchgen.db"
    for number in range(BATCHES_AT_ONCE):
        manifest = write_manifest(tmp_path / f"p{number}.yaml", [{"id": "a", "prompt": f"Paused {number}."}])
        enrolled = asyncio.run(enroll_only(manifest, {}))
        with Database(database) as table:
            table.write_now(steering.pause, enrolled.synced.batch_id, clock.utcnow(), "anna@studio")
    asyncio.run(enroll_only(write_manifest(tmp_path / "free.yaml", [{"id": "a", "prompt": "Free."}]), {}))
    running = launch("worker", **simulator.environment)
    until(lambda: states(database).get("done"), "the batch that is not paused is delivered")
    running.signal(signal.SIGTERM)
    assert running.end().returncode == 143
    assert states(database) == {"done": 1, "pending": BATCHES_AT_ONCE}


async def test_an_answer_that_was_paid_for_is_recorded_although_another_run_of_the_worker_has_ended(
    tmp_path: Path, simulate: Simulate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table is locked when the answer comes: the runs of a worker share the patience for that."""
    service, database = simulate(speed=1), tmp_path / "batchgen.db"
    enrolled = [
        await enroll_only(write_manifest(tmp_path / f"{name}.yaml", [{"id": "a", "prompt": f"{name}."}]), {})
        for name in ("slow", "idle")
    ]
    accepted, release = asyncio.Event(), asyncio.Event()

    async def hold(moment: str) -> None:
        if moment == "accepted":
            accepted.set()
            await release.wait()

    async with proxied(service.base_url, lambda method, _path: method == "POST") as proxy:
        proxy.on_create = hold
        for name, value in {**service.environment, "AIMLAPI_BASE_URL": proxy.base_url}.items():
            monkeypatch.setenv(name, value)
        with Database(database, patience=None) as table:
            table.write_now(steering.pause, enrolled[1].synced.batch_id, clock.utcnow(), "anna@studio")
            worker = Worker(table, None)
            running = asyncio.create_task(worker.run())
            await accepted.wait()
            await asyncio.to_thread(until, lambda: len(worker.runs) == 2)
            worker.stop(signal.SIGTERM)
            await asyncio.to_thread(until, lambda: len(worker.runs) == 1)
            with closing(sqlite3.connect(database, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                release.set()
                await asyncio.to_thread(until, lambda: table.lock.is_held or running.done())
            assert await running == 143
    assert rows(database, "SELECT outcome FROM attempts") == [{"outcome": "accepted"}]


WRONG = [
    (("--db", "nowhere.db"), "nowhere.db: there is no job table; name one with --db"),
    (("--db", "batchgen.db", "--folder", "nowhere"), "--folder nowhere: there is no such folder"),
]


@pytest.mark.parametrize(("words", "message"), WRONG)
def test_a_worker_without_a_table_or_folder_says_so(
    words: tuple[str, ...], message: str, tmp_path: Path, batchgen: Command
) -> None:
    write_manifest(tmp_path / "m.yaml", 1)
    batchgen("run", "m.yaml", "--enroll")
    ended = batchgen("worker", *words)
    assert (ended.returncode, message in ended.stderr) == (2, True), ended.stderr


def test_enrolling_needs_no_key_and_refuses_the_options_of_a_run(tmp_path: Path, batchgen: Command) -> None:
    write_manifest(tmp_path / "m.yaml", 2)
    for option, hint in (("--max-cost", "write limits into the manifest"), ("--sample", "a run without --enroll does")):
        refused = batchgen("run", "m.yaml", "--enroll", option, "1")
        assert (refused.returncode, f"starts no run for {option}: {hint}" in refused.stderr) == (2, True)
    ended = batchgen("run", "m.yaml", "--enroll")
    assert (ended.returncode, states(tmp_path / "batchgen.db")) == (0, {"pending": 2})
    assert "Next: `batchgen worker --db batchgen.db`" in ended.stderr
    assert "the service refuses" not in batchgen("worker").stderr
