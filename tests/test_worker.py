"""Workers: runs on whatever is enrolled in a job table, without the manifests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.batches import write_image, write_manifest
from tests.conftest import Command, Launch, Simulate
from tests.events import check_events
from tests.postgres import Server
from tests.steering import work_without_a_manifest
from tests.waiting import rows, states


def test_workers_share_a_batch_and_leave_the_job_whose_image_is_not_there(
    tmp_path: Path, simulate: Simulate, launch: Launch, batchgen: Command
) -> None:
    database = tmp_path / "batchgen.db"
    work_without_a_manifest(tmp_path, str(database), lambda sql: rows(database, sql), simulate, launch, batchgen)


def test_workers_share_a_batch_on_a_server(
    tmp_path: Path, place: str, postgres: Server, simulate: Simulate, launch: Launch, batchgen: Command
) -> None:
    work_without_a_manifest(tmp_path, place, lambda sql: postgres.ask(place, sql), simulate, launch, batchgen)


def test_a_worker_keeps_to_the_cap_of_a_manifest_and_works_on_other_batches_meanwhile(
    tmp_path: Path, simulate: Simulate, batchgen: Command
) -> None:
    simulator, database = simulate("--speed", "6000", "--instant"), tmp_path / "batchgen.db"
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


def test_a_worker_does_not_send_a_job_whose_image_was_edited_since(
    tmp_path: Path, simulate: Simulate, batchgen: Command
) -> None:
    simulator, database = simulate("--speed", "6000", "--instant"), tmp_path / "batchgen.db"
    write_image(tmp_path / "dusk.png", 400, 300)
    job = {"id": "dusk", "model": "klingai/v2.1-master-image-to-video", "prompt": "Dusk.", "image_url": "dusk.png"}
    write_manifest(tmp_path / "m.yaml", [job])
    batchgen("run", "m.yaml", "--enroll")
    write_image(tmp_path / "dusk.png", 400, 300, "red")
    ended = batchgen("worker", "--db", database, **simulator.environment)
    assert ended.returncode == 3, ended.stderr
    assert rows(database, "SELECT state, fingerprint FROM jobs")[0]["state"] == "pending"
    assert not rows(database, "SELECT * FROM attempts")


def test_what_was_paid_for_under_another_name_is_not_bought_by_a_worker(
    tmp_path: Path, simulate: Simulate, batchgen: Command
) -> None:
    simulator, database = simulate("--speed", "6000", "--instant"), tmp_path / "batchgen.db"
    write_manifest(tmp_path / "m.yaml", [{"id": "old", "prompt": "One."}])
    assert batchgen("run", "m.yaml", **simulator.environment).returncode == 0
    write_manifest(tmp_path / "m.yaml", [{"id": "new", "prompt": "One."}])
    batchgen("run", "m.yaml", "--enroll")
    ended = batchgen("worker", "--db", database, **simulator.environment)
    assert ended.returncode == 2, ended.stderr
    assert "m.yaml --changed keep --db " in ended.stderr
    assert len(rows(database, "SELECT * FROM attempts")) == 1


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
    refused = batchgen("run", "m.yaml", "--enroll", "--max-cost", "3")
    assert (refused.returncode, "--enroll starts no run for --max-cost" in refused.stderr) == (2, True)
    ended = batchgen("run", "m.yaml", "--enroll")
    assert (ended.returncode, states(tmp_path / "batchgen.db")) == (0, {"pending": 2})
    assert "Next: `batchgen worker --db batchgen.db`" in ended.stderr
    assert "the service refuses" not in batchgen("worker").stderr
