"""A slice of the campaign, and the proof that the campaign can fail."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from batchgen.jobs import State
from batchgen.simulator.faults import NAMES
from batchgen.simulator.ledger import Generation
from tests.campaign.__main__ import run_trials
from tests.campaign.audit import AuditResult, check_json_lines, check_totals, delivery_defect, sqlite_query
from tests.campaign.crashing import COMMIT_AFTER, COMMIT_BEFORE, REQUEST_SENT
from tests.campaign.points import CrashPoint, parse, run_crash_point
from tests.campaign.scenarios import KINDS, SHARES, SINGLE_FAULTS, Interruption, Scenario, scenarios
from tests.campaign.table import BLOCK, README, TOP_README, problem_report, summary, table, write
from tests.campaign.trial import Trial, run_scenario
from tests.readme_blocks import block_names, read_block
from tests.table import Table

KILL = Interruption("SIGKILL", 6, 0.1)
SLICE = (
    Scenario("lost answers", 1, 6, {"create": {"accept_then_drop": 0.6}}, (KILL,), local_image=True),
    Scenario("bad files", 2, 6, {"cdn": {"cut": 0.5, "html_200": 0.3}}, (KILL, KILL), legacy=True),
    Scenario("two runs", 3, 6, {}, (KILL,), processes=2),
)
CRASHES = (CrashPoint(COMMIT_BEFORE, 5), CrashPoint(REQUEST_SENT, 3), CrashPoint(COMMIT_AFTER, 3, again=True))


def test_a_slice_of_the_campaign_buys_nothing_twice_and_loses_nothing(tmp_path: Path) -> None:
    runners = [*(partial(run_scenario, scenario) for scenario in SLICE)]
    runners += [partial(run_crash_point, point) for point in CRASHES]
    trials = run_trials(runners, tmp_path)
    assert problem_report(trials) == ""
    # On a busy machine a run may take so long that it is stopped once more.
    crashes = [trial.kills for trial in trials if trial.name.startswith("crash point")]
    assert all(kills >= least for kills, least in zip(crashes, (1, 1, 2), strict=True))
    assert sum(trial.kills for trial in trials) >= 5
    assert sum(trial.audit.accepted for trial in trials) == 3 * 6 + 3 * 2
    assert sum(trial.audit.delivered for trial in trials) == 3 * 6 + 3 * 2


def test_the_campaign_finds_a_batchgen_that_pays_twice_and_one_that_gives_up(tmp_path: Path) -> None:
    sound = Scenario("sound", 1, 6, {"create": {"accept_then_drop": {"count": 2}}})
    blind = replace(sound, name="retries blindly", defect="retries blindly")
    careless = replace(sound, name="gives up", defect="gives up")
    trials = run_trials([partial(run_scenario, scenario) for scenario in (sound, blind, careless)], tmp_path)
    assert [(trial.audit.duplicates, trial.audit.lost, trial.passed) for trial in trials] == [
        (0, 0, True),
        (2, 2, False),  # of two generations of a job, the one without a row is lost as well
        (0, 2, False),
    ]
    # On a busy machine a run may take so long that it is stopped once.
    assert table(trials).splitlines()[3] == f"| retries blindly | 1 | {trials[1].kills} | 8 | 2 | 2 | 6 |"
    for scenario in (blind, careless):
        assert scenario.command in problem_report(trials)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["001", "002"], "folders of failed trials stay"
    assert {"batchgen.db", "service.ledger"} <= {path.name for path in (tmp_path / "001").iterdir()}


def test_the_audit_compares_the_batch_s_totals_with_the_service_and_the_files(table: Table) -> None:
    table.bring(State.DONE)
    assert list(check_totals(sqlite_query(table.folder), [])) == []
    wrong = text("UPDATE batches SET spent_nanousd = 1, delivered_bytes = 1")
    table.change(lambda connection: connection.execute(wrong) and None)
    assert list(check_totals(sqlite_query(table.folder), [])) == [
        "the service charged 0 USD, the batch says 1 billionths",
        "9 bytes were delivered, the batch says 1",
    ]


def test_the_audit_notices_json_lines_that_are_not_as_the_schema_says(tmp_path: Path) -> None:
    sound = '{"event": "warning", "message": "m"}\n'
    (tmp_path / "run-00.jsonl").write_text(sound + '{"event": "warn')  # killed within its last line
    assert list(check_json_lines(tmp_path)) == []
    (tmp_path / "run-01.jsonl").write_text(
        '{"event": "warning"}\n{"event": "warning", "message": "m", "x": 1}\nx\n' + sound
    )
    assert [problem.partition(":")[0] for problem in check_json_lines(tmp_path)] == 3 * ["run-01.jsonl"]


GENERATION = Generation(
    model="m",
    endpoint="/",
    body="{}",
    digest="00",
    prompt="job 0",
    seconds=5.0,
    aspect=None,
    image=None,
    micro_usd=0,
    id="g-1",
    nth=0,
    key="",
    client_request_id="c-1",
    file="v.mp4",
    created_at="2026",
    finishes_at="2026",
    outcome="completed",
)
JOB: dict[str, Any] = {"key": "j0", "state": "done", "error": None, "output_path": "j0.mp4", "current": 1}
FILE: dict[str, Any] = {"path": "j0.mp4", "delivered_at": "2026", "bytes": 3, "sha256": "00"}


@pytest.mark.parametrize(
    ("job", "files", "defect"),
    [
        (None, [], "no attempt has its id"),
        ({"current": 0}, [FILE], "its job j0 has another attempt"),
        ({"state": "failed", "error": "gone"}, [FILE], "its job j0 is failed (gone)"),
        ({}, [], "j0 is done with j0.mp4, its files are []"),
        ({}, [FILE, FILE], "j0 is done with j0.mp4, its files are"),
        ({}, [{**FILE, "delivered_at": None}], "j0 is done with j0.mp4, its files are"),
        ({}, [{**FILE, "path": "j1.mp4"}], "j0 is done with j0.mp4, its files are"),
        ({}, [FILE], "j0.mp4 is missing"),
    ],
)
def test_the_audit_finds_a_delivery_that_its_rows_do_not_describe(
    tmp_path: Path, job: dict[str, Any] | None, files: list[dict[str, Any]], defect: str
) -> None:
    row = None if job is None else {**JOB, **job}
    assert (delivery_defect(tmp_path, row, files, GENERATION, b"") or "").startswith(defect)


def test_the_audit_compares_a_file_with_its_row(tmp_path: Path) -> None:
    (tmp_path / "j0.mp4").write_bytes(b"abc")
    assert delivery_defect(tmp_path, JOB, [FILE], GENERATION, b"abc") == "j0.mp4 is not what the row of its file says"


def test_every_fault_of_the_simulator_has_a_row() -> None:
    """Except those of the bill, which kill no run: `tests/books` has them."""
    faults = {f"{place}.{name}" for place, names in NAMES.items() if place != "billing" for name in names}
    assert set(SINGLE_FAULTS) == faults


def test_the_same_seed_gives_the_same_scenarios() -> None:
    assert list(scenarios(40, 7)) == list(scenarios(40, 7))
    assert list(scenarios(40, 7)) != list(scenarios(40, 8))
    for scenario in scenarios(40, 7):
        assert list(scenarios(1, scenario.seed, scenario.name)) == [scenario], "its command repeats exactly this run"


def test_one_round_of_scenarios_has_every_row() -> None:
    round_of_all = sum(SHARES.get(name, 1) for name in KINDS)
    assert {scenario.name for scenario in scenarios(round_of_all, 1)} == set(KINDS)


@pytest.mark.parametrize("point", CRASHES)
def test_the_command_of_a_crash_point_names_that_crash_point(point: CrashPoint) -> None:
    assert parse(point.command.partition("--only '")[2].rstrip("'")) == point


def test_the_table_adds_up(tmp_path: Path) -> None:
    trials = [Trial("a", "", tmp_path, kills=2), Trial("b", "", tmp_path, kills=3), Trial("a", "", tmp_path, kills=1)]
    assert [row.split(" | ")[:3] for row in table(trials).splitlines()[2:]] == [
        ["| a", "2", "3"],
        ["| b", "1", "3"],
        ["| **all**", "3", "6"],
    ]


def test_a_campaign_is_written_into_both_readmes_and_the_prose_is_kept(tmp_path: Path) -> None:
    readme, top = tmp_path / "campaign.md", tmp_path / "top.md"
    for path in (readme, top):
        path.write_text("before\n<!-- campaign -->\nstale\n<!-- /campaign -->\nafter\n")
    trials = [Trial("a", "", tmp_path, kills=2, audit=AuditResult(accepted=1200, delivered=1200))]
    write(trials, 7, readme, top)
    sums = "1 scenarios, 2 kills, 1,200 accepted generations: 0 duplicates, 0 lost."
    assert read_block(top, BLOCK) == summary(trials) == sums
    assert (read_block(readme, BLOCK) or "").startswith(f"{sums}\n\n| fault | runs |")
    assert "stale" not in readme.read_text() + top.read_text()
    assert readme.read_text().startswith("before\n") and readme.read_text().endswith("\nafter\n")


def test_the_readmes_show_the_same_campaign() -> None:
    assert block_names(README) == [BLOCK, "postgres"]
    shown, written = read_block(TOP_README, BLOCK), read_block(README, BLOCK) or ""
    if shown is None:
        pytest.skip("the top README has no block `campaign` yet")
    assert shown == written.splitlines()[0]
