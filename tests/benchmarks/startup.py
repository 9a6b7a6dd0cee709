"""How long `batchgen --help` takes, beside an interpreter that imports the command-line library alone."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator

from tests.benchmarks.measure import Figure, median_seconds, run, sized

ROUNDS = sized(15, 2)
BOUND = 1.5


def figures() -> Iterator[Figure]:
    rounds = [(seconds("-m", "batchgen", "--help"), seconds("-c", "import click")) for _ in range(ROUNDS)]
    ours, click = (statistics.median(column) for column in zip(*rounds, strict=True))
    yield Figure(
        "`batchgen --help`",
        f"{ours * 1000:.0f} ms, {ours / click:.2f} ×",
        f'≤ {BOUND} × of `python -c "import click"` ({click * 1000:.0f} ms)',
        ours <= BOUND * click,
    )


def seconds(*arguments: str) -> float:
    return median_seconds(lambda: run(sys.executable, *arguments), 1)
