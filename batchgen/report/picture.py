"""The live display: what a batch looks like at one moment."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from statistics import median
from typing import TYPE_CHECKING

from batchgen.jobs import State
from batchgen.jobtable.statistics import BatchSummary, Blocker, Event
from batchgen.report.words import dollars, happened, marks, size, span, waiting

if TYPE_CHECKING:
    from rich.console import RenderableType

BAR_COLUMNS = 78
RECENT = 50  # videos that say how long one takes

STROKES = {
    State.DONE: ("━", "green"),
    State.DOWNLOADING: ("─", "cyan"),
    State.GENERATING: ("─", "blue"),
    State.UNCONFIRMED: ("?", "yellow"),
    State.SUBMITTING: ("─", "magenta"),
    State.FAILED: ("x", "red"),
    State.CANCELLED: ("·", "bright_black"),
    State.PENDING: ("·", "white"),
}
"""How each state looks in the bar, in this order; the strokes tell them apart where there are no colours."""

FLYING = (State.SUBMITTING, State.UNCONFIRMED, State.GENERATING, State.DOWNLOADING)


@dataclass(slots=True)
class View:
    """The batch at this moment, and how fast it has gone since the run began."""

    batch: str
    began: datetime
    done_before: int
    batch_summary: BatchSummary
    latest: deque[Event]
    blockers: list[Blocker] = field(default_factory=list)
    notice: str = ""
    sent: dict[str, datetime] = field(default_factory=dict)
    """When the jobs that are under way were submitted."""
    cycles: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))
    """Seconds from submit to file of the last videos."""

    def learn(self, event: Event) -> None:
        """Remember when a job was sent; once it is delivered, how long that took."""
        if event.to_state is State.SUBMITTING:
            self.sent[event.key] = event.at
        elif event.to_state in (State.DONE, State.FAILED, State.PENDING):
            sent_at = self.sent.pop(event.key, None)
            if event.to_state is State.DONE and sent_at:
                self.cycles.append((event.at - sent_at).total_seconds())

    def eta(self, now: datetime) -> timedelta | None:
        """How long the rest takes if videos take as long as the last ones and as many are made at once as now.

        None where that cannot be told yet, or any more.
        """
        counts = self.batch_summary.counts
        flying = sum(counts[state] for state in FLYING) - self.batch_summary.held
        if not self.cycles or flying <= 0:
            return None
        cycle = timedelta(seconds=median(self.cycles))
        if counts[State.PENDING]:
            return cycle * (1 + counts[State.PENDING] / flying)
        left = cycle - (now - max(self.sent.values(), default=self.began))
        return left if left > timedelta(0) else None

    def rate(self, now: datetime) -> float:
        """Videos delivered a minute, in this run."""
        minutes = max((now - self.began).total_seconds(), 1.0) / 60
        return (self.batch_summary.counts[State.DONE] - self.done_before) / minutes


def paint(view: View, now: datetime, width: int) -> RenderableType:
    """A line of figures, a bar by state and its legend, what is waited for, and the last few events."""
    from rich.console import Group
    from rich.text import Text

    def line(text: str, style: str = "") -> Text:
        return Text(text, style=style, overflow="ellipsis", no_wrap=True)

    batch_summary = view.batch_summary
    figures = [span(now - view.began)]
    if rate := view.rate(now):
        figures.append(f"{rate:.1f} videos/min")
    if (eta := view.eta(now)) is not None:
        figures.append(f"about {span(eta)} left")
    figures.append(dollars(batch_summary.cost_usd))
    if batch_summary.bytes:
        figures.append(size(batch_summary.bytes))
    head = Text(f"{view.batch}  ", style="bold", overflow="ellipsis", no_wrap=True) + Text(" · ".join(figures))
    bar, legend = Text(no_wrap=True, overflow="crop"), Text()
    for state, columns in shares(batch_summary, min(width - 2, BAR_COLUMNS)).items():
        stroke, colour = STROKES[state]
        bar.append(stroke * columns, style=colour)
        legend.append(f"{batch_summary.counts[state]} {state}  ", style=colour)
    legend.append("  ".join(marks(batch_summary)), style="yellow")
    lines = [head, bar, legend]
    if view.notice:
        lines.append(line(view.notice, "yellow"))
    lines += [line(f"  {waiting(wait, now)}", "dim") for wait in view.blockers[:3]]
    lines += [line(f"  {happened(event)}") for event in view.latest]
    return Group(*lines)


def shares(batch_summary: BatchSummary, columns: int) -> dict[State, int]:
    """The bar's columns for each state that holds jobs: at least one, and never more than `columns` together."""
    present = [state for state in STROKES if batch_summary.counts[state]]
    room = max(columns, len(present)) - len(present)  # one column each is given; the rest goes by number
    shared, seen, given = {}, 0, 0
    for state in present:
        seen += batch_summary.counts[state]
        upto = room * seen // batch_summary.total
        shared[state] = 1 + upto - given
        given = upto
    return shared
