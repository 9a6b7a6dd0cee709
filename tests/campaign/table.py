"""What a campaign reports: its table, its sums, its problems, and their places in the READMEs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from tests.campaign.trial import Trial
from tests.readme_blocks import machine, read_block, write_block

T = TypeVar("T", bound=Trial)
README = Path(__file__).with_name("README.md")
TOP_README = Path(__file__).resolve().parents[2] / "README.md"
BLOCK = "campaign"
"""The name of the block in both READMEs: the table in one, the sums in the other."""
HEADS = ("fault", "runs", "kills", "accepted", "duplicates", "lost", "delivered")


def table(trials: Sequence[Trial]) -> str:
    return markdown(trials, HEADS, sums)


def markdown(trials: Sequence[T], heads: Sequence[str], cells: Callable[[Sequence[T]], Sequence[object]]) -> str:
    """A table: a row for each name, in the order in which the names first come, and one for all of them."""
    groups = {name: [trial for trial in trials if trial.name == name] for name in dict.fromkeys(t.name for t in trials)}
    rows = [(name, *cells(group)) for name, group in [*groups.items(), ("**all**", trials)]]
    lines = [f"| {' | '.join(map(str, row))} |" for row in [heads, *rows]]
    return "\n".join([lines[0], f"| --- |{' ---: |' * (len(heads) - 1)}", *lines[1:]])


def sums(trials: Sequence[Trial]) -> list[int]:
    """Trials, kills, and what their audits counted."""
    audits = [trial.audit for trial in trials]
    names = ("accepted", "duplicates", "lost", "delivered")
    counted = [sum(getattr(audit, name) for audit in audits) for name in names]
    return [len(trials), sum(trial.kills for trial in trials), *counted]


def summary(trials: Sequence[Trial]) -> str:
    """The sums in a sentence."""
    _, kills, accepted, duplicates, lost, _ = sums(trials)
    return (
        f"{len(trials):,} scenarios, {kills:,} kills, {accepted:,} accepted generations:"
        f" {duplicates} duplicates, {lost} lost."
    )


def problem_report(trials: Sequence[Trial]) -> str:
    """Every problem, with the folder of its trial and the command that repeats it; empty if there is none."""
    lines = []
    for trial in trials:
        if not trial.passed:
            lines.append(f"\n{trial.name}: kept in {trial.folder}; again with\n    {trial.command}")
            lines += [f"  - {problem}" for problem in trial.audit.problems]
    return "\n".join(lines)


def write(trials: Sequence[Trial], seed: int, readme: Path = README, top: Path = TOP_README) -> None:
    """Replace the table in the campaign's README, and the sums in the top README if it has a place for them."""
    sums = summary(trials)
    write_block(readme, BLOCK, f"{sums}\n\n{table(trials)}\n\nSeed {seed}, {machine()}.")
    if read_block(top, BLOCK) is not None:
        write_block(top, BLOCK, sums)
