"""How long generations take."""

from __future__ import annotations

from datetime import datetime
from statistics import median, quantiles

import pytest

from batchgen.catalogue.durations import typical_seconds
from batchgen.simulator.aimlapi.generations import clip_seconds
from batchgen.simulator.faults import uniform
from batchgen.simulator.service import generation_seconds

from .client import MASTER, STANDARD, UNIVERSAL, accepted, create, simulated


@pytest.mark.parametrize(
    ("model", "seconds", "low", "high"),
    [(STANDARD, 5, 3, 4), (STANDARD, 10, 6, 8), (MASTER, 5, 5, 6), (MASTER, 10, 11, 14), ("unknown", 5, 2.6, 3.5)],
)
def test_four_of_five_generations_end_within_the_documented_range(
    model: str, seconds: int, low: float, high: float
) -> None:
    minutes = [generation_seconds(model, seconds, uniform("a seed", job)) / 60 for job in range(500)]
    tenths = quantiles(minutes, n=10)
    assert tenths[0] == pytest.approx(low, rel=0.1)
    assert tenths[-1] == pytest.approx(high, rel=0.1)
    assert median(minutes) == pytest.approx(typical_seconds(model, seconds) / 60, rel=0.1)


@pytest.mark.parametrize(
    ("params", "seconds"),
    [({}, 5), ({"duration": "10"}, 10), ({"duration": 10}, 10), ({"duration": 7.5}, 7.5), ({"duration": "long"}, 5)],
)
def test_the_length_of_a_clip_is_a_number_or_digits_and_five_seconds_by_default(
    params: dict[str, object], seconds: float
) -> None:
    assert clip_seconds("unknown", UNIVERSAL, params) == seconds


async def test_the_same_job_takes_as_long_again_only_under_the_same_seed() -> None:
    spans = []
    for seed in (1, 1, 2):
        async with simulated(seed=seed, speed=1) as client:
            await create(client)
            (generation,) = await accepted(client)
            spans.append(span(generation["created_at"], generation["finishes_at"]))
    assert spans[0] == spans[1] != spans[2]


def span(begin: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds()
