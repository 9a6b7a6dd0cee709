"""The simulator and a real service share a manifest: try it, change one line, run it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.batches import MASTER, Bill, check_delivered, write_image, write_manifest
from tests.conftest import Command, Simulate
from tests.waiting import rows

pytestmark = pytest.mark.slow

BATCHES = """
SELECT b.name, b.service, count(*) AS jobs FROM jobs AS j JOIN batches AS b ON b.id = j.batch_id
GROUP BY b.id ORDER BY b.id"""
TRIED = {"name": "m-simulated", "service": "simulator", "jobs": 2}
RUN = {"name": "m", "service": "aimlapi", "jobs": 2}


def test_a_manifest_is_tried_on_the_simulator_and_then_run_on_the_real_service(
    tmp_path: Path, simulate: Simulate, batchgen: Command
) -> None:
    real = simulate(speed=2_000)
    database = tmp_path / "batchgen.db"
    tried, paid = Bill(tmp_path / "batchgen.db.simulator"), Bill(real.ledger)

    write_manifest(tmp_path / "m.yaml", 2, service="simulator")
    ended = batchgen("run", "m.yaml")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("m-simulated: 2 done; ")
    assert rows(database, BATCHES) == [TRIED]
    assert sorted(path.name for path in (tmp_path / "simulated/m").iterdir()) == ["clip-0.mp4", "clip-1.mp4"]
    assert not (tmp_path / "m").exists()
    simulated = {path: path.read_bytes() for path in (tmp_path / "simulated").rglob("*.mp4")}

    write_manifest(tmp_path / "m.yaml", 2, service="aimlapi")
    ended = batchgen("run", "m.yaml", **real.environment)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("m: 2 done; ")
    assert rows(database, BATCHES) == [TRIED, RUN]
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == ["clip-0.mp4", "clip-1.mp4"]
    assert {path: path.read_bytes() for path in simulated} == simulated
    assert (len(tried.accepted), len(paid.accepted)) == (2, 2)
    check_delivered(tmp_path, database)


def test_a_simulated_batch_is_the_same_whichever_way_it_was_asked_for(
    tmp_path: Path, simulate: Simulate, batchgen: Command
) -> None:
    real = simulate(speed=2_000)
    tried, paid = Bill(tmp_path / "batchgen.db.simulator"), Bill(real.ledger)
    for service, options in (("simulator", ()), ("aimlapi", ("--simulate",)), ("simulator", ("--simulate",))):
        write_manifest(tmp_path / "m.yaml", 2, service=service)
        ended = batchgen("run", "m.yaml", *options, **real.environment)
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.startswith("m-simulated: 2 done; ")
        assert rows(tmp_path / "batchgen.db", BATCHES) == [TRIED]
        assert "`batchgen review m.yaml --simulate`\n" in ended.stderr, "as `status` says it"
    assert (len(tried.accepted), len(paid.accepted)) == (2, 0), "the second and the third found all done"


@pytest.mark.parametrize(
    ("typed", "following"),
    [
        ("check m.yaml", "plan m.yaml --simulate"),
        ("plan m.yaml --limit 1", "run --simulate m.yaml --limit 1"),
        ("run m.yaml -n --limit 1", "run --simulate m.yaml --limit 1"),
        ("run --dry-run --simulate m.yaml", "run --simulate m.yaml"),
    ],
)
def test_a_command_that_is_advised_for_a_manifest_of_the_simulator_says_simulate_and_sends(
    typed: str, following: str, tmp_path: Path, batchgen: Command
) -> None:
    write_manifest(tmp_path / "m.yaml", 2, service="simulator")
    event = json.loads(batchgen(*typed.split(), "--json").stdout.splitlines()[-1])
    assert event["next"].removesuffix(" --json") == f"batchgen {following}"


def test_a_first_simulation_is_forecast_and_ended_at_the_speed_of_the_simulator(
    tmp_path: Path, batchgen: Command
) -> None:
    """No generation of the model has been measured yet; at real speed, one takes some minutes."""
    write_manifest(tmp_path / "m.yaml", 2, service="simulator")
    until = datetime.now(UTC) + timedelta(seconds=45)
    plan = json.loads(batchgen("plan", "m.yaml", "--json", "--until", until.isoformat()).stdout)
    assert plan["until"]["jobs"] == 2
    assert datetime.fromisoformat(plan["finish"]["p90"]) < until
    assert batchgen("run", "m.yaml", "--until", until.isoformat()).returncode == 0


def test_a_simulated_job_that_was_sent_needs_its_image_no_longer(tmp_path: Path, batchgen: Command) -> None:
    write_image(tmp_path / "a.png", 64, 64)
    jobs = [{"id": "one", "prompt": "x", "image_url": "a.png"}]
    write_manifest(tmp_path / "m.yaml", jobs, service="simulator", defaults={"model": MASTER})
    assert batchgen("run", "m.yaml").returncode == 0
    (tmp_path / "a.png").unlink()
    ended = batchgen("run", "m.yaml")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("m-simulated: 1 done; ")


def test_a_simulated_job_does_not_stand_in_for_a_real_one_whose_image_is_gone(
    tmp_path: Path, simulate: Simulate, batchgen: Command
) -> None:
    real = simulate(speed=2_000)
    write_image(tmp_path / "a.png", 64, 64)
    jobs = [{"id": "one", "prompt": "x", "image_url": "a.png"}]
    write_manifest(tmp_path / "m.yaml", jobs, service="simulator", defaults={"model": MASTER})
    assert batchgen("run", "m.yaml").returncode == 0
    (tmp_path / "a.png").unlink()
    write_manifest(tmp_path / "m.yaml", jobs, service="aimlapi", defaults={"model": MASTER})
    ended = batchgen("run", "m.yaml", **real.environment)
    assert ended.returncode == 2
    assert "a.png" in ended.stderr
    assert Bill(real.ledger).accepted == []
