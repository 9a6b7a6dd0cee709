"""A short slice of `python -m tests.hostile`, and planted defects that it has to notice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from batchgen.services import bounds, text
from batchgen.services.aimlapi import answers
from batchgen.services.outcomes import Accepted
from tests.hostile.answers import run_answers
from tests.hostile.files import run_files

pytestmark = pytest.mark.slow

ANSWERS, FILES = 130, 40


def test_drawn_answers_raise_nothing_bring_no_wrong_id_and_show_no_key(tmp_path: Path) -> None:
    result = run_answers(ANSWERS, 3, tmp_path)
    assert result.problems == []
    assert result.outcomes.keys() >= {"Accepted", "Unknown", "Blocked"}


def test_mutated_videos_and_images_are_taken_or_refused(tmp_path: Path) -> None:
    refused, problems = run_files(FILES, 3, tmp_path)
    assert problems == []
    assert refused["video"] > 0


def keep_the_key(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(text, "KEY_CHARS_MIN", 1_000)


def take_another_id(patch: pytest.MonkeyPatch) -> None:
    read: Callable[..., Any] = answers.read_create

    def wrongly(answer: Any) -> Any:
        outcome = read(answer)
        return Accepted("g-of-another", None, 200) if isinstance(outcome, Accepted) else outcome

    patch.setattr(answers, "read_create", wrongly)


def raise_to_the_stage(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(bounds, "amount", lambda usd: usd and int(usd))


DEFECTS = [(keep_the_key, "the key is in"), (take_another_id, "of another answer"), (raise_to_the_stage, "Traceback")]


@pytest.mark.parametrize(("plant", "problem"), DEFECTS)
def test_a_planted_defect_is_noticed(
    plant: Callable[[pytest.MonkeyPatch], None], problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    assert problem in "\n".join(run_answers(ANSWERS // 2, 3, tmp_path).problems)
