"""A slice of `python -m tests.clips`: sound scenes and each defect, rendered small, measured by the real stage."""

from __future__ import annotations

import pytest

from tests.clips.corpus import DEFECTS, recipes, render
from tests.clips.judging import Judgement, judge

IMAGES = 4


@pytest.fixture(scope="module")
def judgements(tmp_path_factory: pytest.TempPathFactory) -> list[Judgement]:
    folder = tmp_path_factory.mktemp("clips")
    return judge(folder, render(folder, recipes(IMAGES, 1, is_small=True), 0))[0]


@pytest.mark.slow
@pytest.mark.xdist_group("clips")
def test_no_sound_clip_is_called_wrong(judgements: list[Judgement]) -> None:
    sound = [judgement for judgement in judgements if not judgement.case.problems]
    assert len(sound) == 2 * IMAGES
    assert {judgement.case.id: judgement.problems for judgement in sound if judgement.is_false_alarm} == {}


@pytest.mark.xdist_group("clips")
def test_each_defect_is_noticed(judgements: list[Judgement]) -> None:
    planted = {judgement.case.kind: judgement for judgement in judgements if judgement.case.problems}
    assert planted.keys() == DEFECTS.keys()
    assert {kind: judgement.problems for kind, judgement in planted.items() if judgement.is_missed} == {}
