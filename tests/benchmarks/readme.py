"""The tables of figures, and their places in the READMEs.

`tests/benchmarks/README.md` has a block for each part. The top README has one block, `figures`, with the five rows of
`HEADLINES`: they are copied from the tables, so both always agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.measure import Figure
from tests.readme_blocks import block_names, machine, read_block, write_block

TABLES = Path(__file__).with_name("README.md")
TOP = Path(__file__).resolve().parents[2] / "README.md"
HEADLINE_BLOCK = "figures"
HEADLINES = (
    "CPU time of the runner a job, beyond that of its requests",
    "1,000 videos in flight, 210 s each",
    "500 files of 2 MB, 8 at once",
    "500 jobs, 50 in flight, lognormal times (210 s, sigma 0.18), first submit to last delivery",
    "`batchgen run` of 100,000 new jobs, to the first create request",
)
"""The rows that the top README shows, by their first cell."""

HEAD = "| what | measured | bound | holds |\n| --- | --- | --- | --- |"
HOLDS = {True: "yes", False: "**no**", None: ""}


def table(figures: Sequence[Figure]) -> str:
    """Figures as a Markdown table."""
    rows = [f"| {row.what} | {row.value} | {row.bound} | {HOLDS[row.holds]} |" for row in figures]
    return "\n".join([HEAD, *rows])


def write(part: str, figures: Sequence[Figure], tables: Path = TABLES, top: Path = TOP) -> None:
    """Replace the table of one part, and the headlines of the top README if it has a place for them."""
    write_block(tables, part, f"{table(figures)}\n\nMeasured {machine()}.")
    if read_block(top, HEADLINE_BLOCK) is not None:
        write_block(top, HEADLINE_BLOCK, headlines(tables))


def headlines(tables: Path = TABLES) -> str:
    """The rows of `HEADLINES` as one table, as far as they have been measured."""
    rows = [line for part in block_names(tables) for line in (read_block(tables, part) or "").splitlines()]
    return "\n".join([HEAD, *(row for what in HEADLINES for row in rows if row.startswith(f"| {what} |"))])
