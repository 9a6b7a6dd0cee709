"""What a campaign reports: its table, its sums, its problems, and their places in the READMEs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.campaign.trial import Trial
from tests.readme_blocks import machine, read_block, write_block

README = Path(__file__).with_name("README.md")
TOP_README = Path(__file__).resolve().parents[2] / "README.md"
BLOCK = "campaign"
"""The name of the block in both READMEs: the table in one, the sums in the other."""
HEADS = ("fault", "runs", "kills", "accepted", "duplicates", "lost", "delivered")


def table(trials: Sequence[Trial]) -> str:
    """A Markdown table: a row for each name, in the order in which the names first come, and the sums."""
    names = list(dict.fromkeys(trial.name for trial in trials))
    lines = [line(name, [trial for trial in trials if trial.name == name]) for name in names]
    lines.append(line("**all**", trials))
    heads = [f"| {' | '.join(HEADS)} |", "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"]
    return "\n".join([*heads, *lines])


def line(name: str, trials: Sequence[Trial]) -> str:
    """One row of the table."""
    sums = (
        len(trials),
        sum(trial.kills for trial in trials),
        sum(trial.audit.accepted for trial in trials),
        sum(trial.audit.duplicates for trial in trials),
        sum(trial.audit.lost for trial in trials),
        sum(trial.audit.delivered for trial in trials),
    )
    return f"| {' | '.join([name, *map(str, sums)])} |"


def summary(trials: Sequence[Trial]) -> str:
    """The sums in a sentence."""
    kills, accepted, duplicates, lost = (
        sum(numbers)
        for numbers in zip(
            *((trial.kills, trial.audit.accepted, trial.audit.duplicates, trial.audit.lost) for trial in trials),
            strict=True,
        )
    )
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
