"""The content of the live display: a batch at one moment, and how fast it goes."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from statistics import median
from typing import TYPE_CHECKING

from rich import filesize

from batchgen.jobs import State
from batchgen.jobtable.statistics import BatchSummary, Event
from batchgen.limits.blockers import Blocker
from batchgen.report.formats import duration
from batchgen.report.words import APPEARANCES, blocker_line, cost_words, event_line, labels

if TYPE_CHECKING:
    from rich.console import RenderableType

BAR_COLUMNS = 78  # at most: a longer bar is no easier to read
RECENT_VIDEOS = 50  # whose durations the estimate of the time left is the median of
EVENTS_SHOWN = 4
BLOCKERS_SHOWN = 3
BRIEF_STATES = frozenset({State.SUBMITTING, State.DOWNLOADING})
"""A job leaves these so soon that the few lines are kept for other events."""


@dataclass(slots=True)
class LiveView:
    """A batch at this moment, and what this run has seen of it since it began."""

    batch: str
    began_at: datetime
    done_before: int
    """Jobs that were delivered before this run."""
    summary: BatchSummary
    events: deque[Event] = field(default_factory=lambda: deque(maxlen=EVENTS_SHOWN))
    blockers: list[Blocker] = field(default_factory=list)
    notice: str = ""
    change: str = ""
    """The last change that a person has made by `batchgen set` and the like."""
    submitted_at: dict[str, datetime] = field(default_factory=dict)
    """By job id, for jobs in flight."""
    durations: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT_VIDEOS))
    """Seconds from submit to delivery of the last videos."""

    def record(self, event: Event) -> None:
        """Show the event; note when a job is submitted and, once it is delivered, how long that took."""
        if event.to_state not in BRIEF_STATES:
            self.events.append(event)
        if event.to_state is State.SUBMITTING:
            self.submitted_at[event.key] = event.at
        elif event.to_state is State.PENDING or event.to_state.is_terminal:
            submitted_at = self.submitted_at.pop(event.key, None)
            if event.to_state is State.DONE and submitted_at:
                self.durations.append((event.at - submitted_at).total_seconds())

    def time_left(self, now: datetime) -> timedelta | None:
        """How long the rest takes at the pace of the last videos; None before the first, and once that time is over."""
        pending = self.summary.counts[State.PENDING]
        terminal = sum(self.summary.counts[state] for state in State if state.is_terminal)
        in_flight = self.summary.total - pending - terminal - self.summary.held
        if not self.durations or in_flight <= 0:
            return None
        typical = timedelta(seconds=median(self.durations))
        if pending:
            return typical * (1 + pending / in_flight)
        left = typical - (now - max(self.submitted_at.values(), default=self.began_at))
        return left if left > timedelta(0) else None


def render(view: LiveView, now: datetime, width: int) -> RenderableType:
    """A line of figures, a bar by state with its legend, the notice, the blockers, and the last events."""
    from rich.console import Group
    from rich.text import Text

    def line(text: str, style: str = "") -> Text:
        return Text(text, style=style, overflow="ellipsis", no_wrap=True)

    bar, legend, words = Text(no_wrap=True, overflow="crop"), Text(), labels(view.summary)
    for state, columns in bar_columns(view.summary, min(width - 2, BAR_COLUMNS)).items():
        _, character, colour, _ = APPEARANCES[state]
        bar.append(character * columns, style=colour)
        legend.append(f"{view.summary.counts[state]} {words[state]}  ", style=colour)
    return Group(
        line(f"{view.batch}  ", "bold") + Text(" · ".join(figures(view, now))),
        bar,
        legend,
        *([line(view.notice, "yellow")] if view.notice else []),
        *([line(f"  {view.change}")] if view.change else []),
        *(line(f"  {blocker_line(blocker, now)}", "dim") for blocker in view.blockers[:BLOCKERS_SHOWN]),
        *(line(f"  {event_line(event)}") for event in view.events),
    )


def figures(view: LiveView, now: datetime) -> list[str]:
    texts = [duration(now - view.began_at)]
    if delivered := view.summary.counts[State.DONE] - view.done_before:
        minutes = max((now - view.began_at).total_seconds(), 1.0) / 60
        texts.append(f"{delivered / minutes:.1f} videos/min")
    if (left := view.time_left(now)) is not None:
        texts.append(f"about {duration(left)} left")
    texts.append(cost_words(view.summary))
    if view.summary.bytes:
        texts.append(filesize.decimal(view.summary.bytes))
    return texts


def bar_columns(summary: BatchSummary, width: int) -> dict[State, int]:
    """The columns of the bar for each state that has jobs: one at least, and `width` together if that is enough."""
    present = [state for state in APPEARANCES if summary.counts[state]]
    spare = max(width - len(present), 0)  # after one column each; shared out by the number of jobs
    columns, jobs_so_far, spare_used = {}, 0, 0
    for state in present:
        jobs_so_far += summary.counts[state]
        share_end = spare * jobs_so_far // summary.total
        columns[state] = 1 + share_end - spare_used
        spare_used = share_end
    return columns
