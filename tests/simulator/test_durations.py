"""How long generations take."""

from __future__ import annotations

from statistics import median, quantiles

import pytest

from batchgen.catalogue import typical_seconds
from batchgen.simulator.chance import generation_seconds

from .conversation import STANDARD

MASTER = "klingai/v2.1-master-image-to-video"


@pytest.mark.parametrize(
    ("model", "seconds", "low", "high"),
    [(STANDARD, 5, 3, 4), (STANDARD, 10, 6, 8), (MASTER, 5, 5, 6), (MASTER, 10, 11, 14), ("who/knows", 5, 2.6, 3.5)],
)
def test_most_generations_take_what_the_documents_say(model: str, seconds: int, low: float, high: float) -> None:
    taken = [generation_seconds(1, f"job {at}", model, {"duration": seconds}) / 60 for at in range(500)]
    tenths = quantiles(taken, n=10)
    assert tenths[0] == pytest.approx(low, rel=0.1)
    assert tenths[-1] == pytest.approx(high, rel=0.1)
    assert median(taken) == pytest.approx(typical_seconds(model, seconds) / 60, rel=0.1)


@pytest.mark.parametrize("given", [None, "5", 5, 5.0, "long"])
def test_a_length_is_read_as_number_or_digits_and_is_five_seconds_by_default(given: object) -> None:
    body = {} if given is None else {"duration": given}
    assert generation_seconds(1, "job", STANDARD, body) == generation_seconds(1, "job", STANDARD, {"duration": 5})


def test_the_same_job_takes_as_long_under_the_same_seed_only() -> None:
    assert generation_seconds(1, "job", STANDARD, {}) == generation_seconds(1, "job", STANDARD, {})
    assert generation_seconds(1, "job", STANDARD, {}) != generation_seconds(2, "job", STANDARD, {})
