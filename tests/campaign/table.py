"""The one table of a campaign."""

from __future__ import annotations

from collections.abc import Sequence

from tests.campaign.trial import Trial

HEADS = ("fault", "runs", "kills", "accepted", "duplicates", "lost", "delivered")


def table(trials: Sequence[Trial]) -> str:
    """Markdown: a line for each name, in the order in which the names first come, and the sums."""
    names = list(dict.fromkeys(trial.name for trial in trials))
    lines = [line(name, [trial for trial in trials if trial.name == name]) for name in names]
    lines.append(line("**all**", trials))
    heads = [f"| {' | '.join(HEADS)} |", "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"]
    return "\n".join([*heads, *lines])


def line(name: str, trials: Sequence[Trial]) -> str:
    books = [trial.books for trial in trials]
    sums = (
        len(trials),
        sum(trial.kills for trial in trials),
        sum(each.accepted for each in books),
        sum(each.duplicates for each in books),
        sum(each.lost for each in books),
        sum(each.delivered for each in books),
    )
    return f"| {' | '.join([name, *map(str, sums)])} |"


def complaints(trials: Sequence[Trial]) -> str:
    """Everything that surprised, with where to look and how to see it again; empty where nothing did."""
    told = []
    for trial in trials:
        if not trial.passed:
            told.append(f"\n{trial.name}: kept in {trial.folder}; again with\n    {trial.repeat}")
            told += [f"  - {surprise}" for surprise in trial.books.surprises]
    return "\n".join(told)
