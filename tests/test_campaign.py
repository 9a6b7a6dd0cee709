"""A slice of the campaign, and the proof that it can fail."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from batchgen.simulator.faults import NAMES
from tests.campaign.__main__ import perform
from tests.campaign.crashing import COMMIT_AFTER, COMMIT_BEFORE, REQUEST_SENT
from tests.campaign.points import Point, die_at, one
from tests.campaign.scenarios import ALONE, MADE, TIMES, Blow, Scenario, scenarios
from tests.campaign.table import complaints, table
from tests.campaign.trial import Trial, carry_out

KILL = Blow("SIGKILL", 6, 0.1)
SLICE = (
    Scenario("lost answers", 1, 6, {"create": {"accept_then_drop": 0.6}}, (KILL,), local_image=True),
    Scenario("bad files", 2, 6, {"cdn": {"cut": 0.5, "html_200": 0.3}}, (KILL, KILL), legacy=True),
    Scenario("two runs", 3, 6, {}, (KILL,), processes=2),
)
POINTS = (Point(COMMIT_BEFORE, 5), Point(REQUEST_SENT, 3), Point(COMMIT_AFTER, 3, again=True))


def test_a_slice_of_the_campaign_buys_nothing_twice_and_loses_nothing(tmp_path: Path) -> None:
    work = [
        *(lambda folder, scenario=each: carry_out(scenario, folder) for each in SLICE),
        *(lambda folder, point=each: die_at(point, folder) for each in POINTS),
    ]
    trials = perform(work, tmp_path)
    assert complaints(trials) == ""
    assert [trial.kills for trial in trials if trial.name.startswith("crash point")] == [1, 1, 2]
    assert sum(trial.kills for trial in trials) >= 5
    assert sum(trial.books.accepted for trial in trials) == 3 * 6 + 3 * 2
    assert sum(trial.books.delivered for trial in trials) == 3 * 6 + 3 * 2


def test_a_batchgen_that_forgets_its_promise_is_found_out(tmp_path: Path) -> None:
    sound = Scenario("sound", 1, 6, {"create": {"accept_then_drop": {"count": 2}}})
    blind = replace(sound, name="retries blindly", defect="retries blindly")
    careless = replace(sound, name="gives up", defect="gives up")
    work = [lambda folder, scenario=each: carry_out(scenario, folder) for each in (sound, blind, careless)]
    trials = perform(work, tmp_path)
    assert [(each.books.duplicates, each.books.lost, each.passed) for each in trials] == [
        (0, 0, True),
        (2, 2, False),  # of two, the one that no row knows is lost as well
        (0, 2, False),
    ]
    assert table(trials).splitlines()[3] == "| retries blindly | 1 | 0 | 8 | 2 | 2 | 6 |"
    for each in (blind, careless):
        assert each.command in complaints(trials)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["001", "002"], "what is needed to look into it stays"
    assert {"batchgen.db", "service.ledger"} <= {path.name for path in (tmp_path / "001").iterdir()}


def test_every_fault_of_the_simulator_has_a_row() -> None:
    assert set(ALONE) == {f"{place}.{name}" for place, names in NAMES.items() for name in names}


def test_the_same_seed_gives_the_same_scenarios() -> None:
    assert list(scenarios(40, 7)) == list(scenarios(40, 7))
    assert list(scenarios(40, 7)) != list(scenarios(40, 8))
    for each in scenarios(40, 7):
        assert list(scenarios(1, each.seed, each.name)) == [each], "what is printed repeats exactly this run"


def test_one_round_of_scenarios_has_every_row() -> None:
    round_of_all = sum(TIMES.get(name, 1) for name in MADE)
    assert {each.name for each in scenarios(round_of_all, 1)} == set(MADE)


@pytest.mark.parametrize("point", POINTS)
def test_a_crash_point_is_found_again_by_its_command(point: Point) -> None:
    told = point.command.partition("--only '")[2].rstrip("'")
    assert one(told) == point


def test_the_table_adds_up(tmp_path: Path) -> None:
    trials = [Trial("a", "", tmp_path, kills=2), Trial("b", "", tmp_path, kills=3), Trial("a", "", tmp_path, kills=1)]
    assert [row.split(" | ")[:3] for row in table(trials).splitlines()[2:]] == [
        ["| a", "2", "3"],
        ["| b", "1", "3"],
        ["| **all**", "3", "6"],
    ]
