"""A slice of `python -m tests.clips`: sound scenes and each defect, rendered small, measured by the real stage."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clips.corpus import DEFECTS, recipes, render
from tests.clips.judging import judge

IMAGES = 4


@pytest.mark.slow
def test_each_defect_is_noticed_and_no_sound_clip_is_called_wrong(tmp_path: Path) -> None:
    judgements = judge(tmp_path, render(tmp_path, recipes(IMAGES, 1, is_small=True), 0))[0]
    sound = [judgement for judgement in judgements if not judgement.case.problems]
    assert len(sound) == 2 * IMAGES
    assert {judgement.case.id: judgement.problems for judgement in sound if judgement.is_false_alarm} == {}
    planted = {judgement.case.kind: judgement for judgement in judgements if judgement.case.problems}
    assert planted.keys() == DEFECTS.keys()
    assert {kind: judgement.problems for kind, judgement in planted.items() if judgement.is_missed} == {}
