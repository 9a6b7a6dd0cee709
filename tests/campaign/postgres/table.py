"""What the campaign on PostgreSQL reports: its table and its sums, and their place in the README."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.campaign.postgres.rounds import RoundTrial
from tests.campaign.table import README, markdown, sums
from tests.readme_blocks import machine, write_block

BLOCK = "postgres"
HEADS = (
    *("fault", "rounds", "kills", "accepted", "duplicates", "lost", "delivered", "over a limit"),
    *("rate after / before", "back after"),
)


def table(trials: Sequence[RoundTrial]) -> str:
    return markdown(trials, HEADS, cells)


def cells(trials: Sequence[RoundTrial]) -> list[object]:
    return [*sums(trials), sum(trial.over_limits for trial in trials), *worst_recovery(trials)]


def worst_recovery(trials: Sequence[RoundTrial]) -> tuple[str, str]:
    """The lowest rate after a fault as a share of the one before, and the longest time until it was reached."""
    recoveries = [trial.recovery for trial in trials if trial.recovery]
    if not recoveries:
        return "", ""
    share = min(recovery.after / recovery.before if recovery.before else 0.0 for recovery in recoveries)
    seconds = [recovery.seconds for recovery in recoveries if recovery.seconds is not None]
    return f"{share:.0%}", f"{max(seconds):.1f} s" if len(seconds) == len(recoveries) else "never"


def summary(trials: Sequence[RoundTrial]) -> str:
    """The sums in a sentence."""
    number, kills, accepted, duplicates, lost, _ = sums(trials)
    return (
        f"{number:,} rounds, {kills:,} kills, {accepted:,} accepted generations: {duplicates} duplicates, {lost} lost,"
        f" {sum(trial.over_limits for trial in trials)} over a limit."
    )


def write(trials: Sequence[RoundTrial], seed: int, version: str, readme: Path = README) -> None:
    """Replace the table in the campaign's README."""
    made = f"Seed {seed}, {machine()}, {version}."
    write_block(readme, BLOCK, f"{summary(trials)}\n\n{table(trials)}\n\n{made}")
