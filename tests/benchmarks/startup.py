"""How long a person waits for `batchgen --help`, beside the interpreter importing its command-line library alone."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from tests.benchmarks.measure import Figure, median_seconds, run

TIMES = 15


def figures() -> Iterator[Figure]:
    ours = median_seconds(lambda: run(sys.executable, "-m", "batchgen", "--help"), TIMES)
    floor = median_seconds(lambda: run(sys.executable, "-c", "import click"), TIMES)
    yield Figure(
        "`batchgen --help`",
        f"{ours * 1000:.0f} ms, {ours / floor:.2f} ×",
        f'`python -c "import click"`: {floor * 1000:.0f} ms',
    )
