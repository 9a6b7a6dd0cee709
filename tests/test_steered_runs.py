"""Runs and workers that are steered and killed while they are at work: the same on both databases."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.batches import MASTER, Bill, write_image, write_manifest
from tests.conftest import Command, Launch, Running, Simulate
from tests.waiting import rows, until

pytestmark = pytest.mark.slow

AT_THE_SERVICE = "SELECT id FROM jobs WHERE state IN ('submitting', 'generating')"
SENT = "SELECT id FROM attempts"


@dataclass(frozen=True)
class Place:
    db: str
    """The path or URL of a job table."""
    ask: Callable[[str], list[dict[str, Any]]]
    """Rows of a SELECT on it, by column name."""


@pytest.fixture(params=["sqlite", "postgresql"])
def anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "sqlite":
        return Place(str(tmp_path / "batchgen.db"), partial(rows, tmp_path / "batchgen.db"))
    url = request.getfixturevalue("place")
    return Place(url, partial(request.getfixturevalue("postgres").ask, url))


def test_two_runs_heed_what_is_set_and_a_run_that_is_killed_while_paused_loses_nothing(
    anywhere: Place, tmp_path: Path, simulate: Simulate, launch: Launch, batchgen: Command
) -> None:
    simulator = simulate(speed=1)  # no generation ends, so that the limit stays in use
    limits = {"submits_per_minute": 60_000, "in_flight": 2, "polls_per_minute": 6_000}
    write_manifest(tmp_path / "m.yaml", 12, limits=limits)
    environment, table, ask = simulator.environment, ("--db", anywhere.db), anywhere.ask

    def steer(*words: str) -> str:
        ended = batchgen(words[0], "m.yaml", *words[1:], *table, **environment)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout + ended.stderr

    def start() -> Running:
        return launch("run", "m.yaml", *table, "--log-file", f"log-{len(started)}", **environment)

    def wait_for_line(text: str, *numbers: int) -> None:
        logs = [tmp_path / f"log-{number}" for number in numbers]
        until(lambda: all(log.exists() and text in log.read_text() for log in logs), text)

    started: list[Running] = []
    started.append(start())
    until(lambda: len(ask(AT_THE_SERVICE)) == 2, "two are in flight")
    started.append(start())
    until(lambda: len(ask("SELECT id FROM runs")) == 2)
    assert len(ask(SENT)) == 2

    assert "2 runs at work act on it within 2 seconds" in steer("set", "in_flight=5")
    until(lambda: len(ask(AT_THE_SERVICE)) == 5, "five are in flight")
    wait_for_line("in_flight is 5 now", 0, 1)

    # The cap is what five cost, so that neither run sends a sixth, although the limit would let it.
    steer("set", "in_flight=12", "max_cost=7.35")
    assert "paused: nothing is sent" in steer("pause")
    wait_for_line("paused by `batchgen pause`", 0, 1)
    assert len(ask(SENT)) == 5
    started[0].signal(signal.SIGKILL)
    started[0].end()
    started.append(start())
    wait_for_line("paused by `batchgen pause`", 2)
    steer("set", "max_cost=")
    assert len(ask(SENT)) == 5

    steer("set", "in_flight=100")
    assert "resumed: it was paused" in steer("resume")
    until(lambda: len(ask(SENT)) == 12, "the rest is sent")
    for running in started[1:]:
        running.signal(signal.SIGTERM)
    for running in started[1:]:
        ended = running.end()
        assert ended.returncode == 143, ended.stderr
        assert "resumed by " in ended.stderr
    assert [row["state"] for row in ask("SELECT state FROM jobs")] == ["generating"] * 12
    assert (len(Bill(simulator.ledger).accepted), Bill(simulator.ledger).duplicates) == (12, 0)
    shown = steer("set")
    assert re.search(r"^in_flight: 100 \(set at .* by .*@.*; the manifest has 2\)$", shown, re.MULTILINE)


def test_workers_share_a_batch_and_leave_the_job_whose_image_is_not_there(
    anywhere: Place, tmp_path: Path, simulate: Simulate, launch: Launch, batchgen: Command
) -> None:
    """They work in folders of their own. One is killed, one is drained, and one has no image."""
    db, ask = anywhere.db, anywhere.ask
    simulator = simulate("--lag", "0", speed=300)
    write_image(tmp_path / "images/dusk.png", 400, 300)
    jobs = [{"id": f"clip-{n}", "prompt": f"Number {n}."} for n in range(8)]
    image = {"id": "dusk", "model": MASTER, "prompt": "Dusk.", "image_url": "images/dusk.png", "priority": 9}
    limits = {"submits_per_minute": 300, "in_flight": 20, "unconfirmed_minutes": 0.02, "on_unconfirmed": "resubmit"}
    write_manifest(tmp_path / "m.yaml", [image, *jobs], limits=limits)
    environment = simulator.environment
    enrolled = batchgen("run", "m.yaml", "--db", db, "--enroll")
    assert (enrolled.returncode, "9 jobs (9 new)" in enrolled.stderr) == (0, True), enrolled.stderr
    assert not (tmp_path / "m").exists()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()

    def work(name: str, *words: str) -> Running:
        return launch("worker", "--db", db, "--folder", name, *words, **environment)

    killed, drained = work("one"), work("two", "--stay")
    until(lambda: len(ask("SELECT id FROM attempts WHERE outcome = 'accepted'")) >= 2)
    killed.signal(signal.SIGKILL)
    killed.end()
    until(lambda: ask("SELECT id FROM jobs WHERE state = 'done'"))
    drained.signal(signal.SIGTERM)
    ended = drained.end()
    assert ended.returncode == 143, ended.stderr
    assert "Next: " not in ended.stderr, "other workers go on"
    assert (
        "1 job names a local file that is not there as enrolled (images/dusk.png): only a worker in whose folder"
        in ended.stderr
    )
    assert not ask("SELECT id FROM jobs WHERE leased_by = (SELECT id FROM runs WHERE exit_code = 143)")

    rest = work("two").end()
    assert rest.returncode == 3, rest.stderr
    assert "what this machine can send is delivered; 1 more names local files that are not here" in rest.stdout
    last = batchgen("worker", "--db", db, **environment)
    assert (last.returncode, "9 done" in last.stdout) == (0, True), last.stderr
    assert (len(Bill(simulator.ledger).accepted), Bill(simulator.ledger).duplicates) == (9, 0)
    assert (tmp_path / "m/dusk.mp4").exists()
    assert len([*(tmp_path / "one").rglob("*.mp4"), *(tmp_path / "two").rglob("*.mp4")]) == 8
