"""What a person watches while a batch runs: a live picture on a terminal, plain lines elsewhere, all from the table."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING

from batchgen import clock
from batchgen.database import Database
from batchgen.jobs import State
from batchgen.jobtable import counts
from batchgen.jobtable.counts import Event, Standing, Wait
from batchgen.report.words import dollars, event_json, happened, size, span, waiting

if TYPE_CHECKING:
    from rich.console import RenderableType

LOOK_SECONDS = 0.25
QUIET_SECONDS = 30.0  # without a line, before plain output says what is waited for

COLOURS = {
    State.DONE: "green",
    State.DOWNLOADING: "cyan",
    State.GENERATING: "blue",
    State.UNCONFIRMED: "yellow",
    State.SUBMITTING: "magenta",
    State.FAILED: "red",
    State.CANCELLED: "bright_black",
    State.PENDING: "white",
}


@dataclass(slots=True)
class View:
    """What is on the screen: the batch at this moment, and how fast it has gone since the run began."""

    batch: str
    began: datetime
    done_before: int
    standing: Standing
    waits: list[Wait] = field(default_factory=list)
    latest: list[Event] = field(default_factory=list)

    def eta(self, now: datetime) -> timedelta | None:
        """How long the rest takes at the pace so far; None before there is one."""
        fresh = self.standing.counts[State.DONE] - self.done_before
        ended = (State.DONE, State.FAILED, State.CANCELLED)
        left = self.standing.total - sum(self.standing.counts[state] for state in ended)
        return (now - self.began) / fresh * left if fresh >= 2 and left else None

    def rate(self, now: datetime) -> float:
        """Videos delivered a minute, in this run."""
        minutes = max((now - self.began).total_seconds(), 1.0) / 60
        return (self.standing.counts[State.DONE] - self.done_before) / minutes


def picture(view: View, now: datetime, width: int) -> RenderableType:
    """The live display: a bar by state, one line of figures, what is waited for, and the last few events."""
    from rich.console import Group
    from rich.text import Text

    standing = view.standing
    bar, legend = Text(), Text()
    room = max(10, min(width - 2, 78))
    filled = 0
    order = sorted(State, key=list(COLOURS).index)
    for state in order:
        number = standing.counts[state]
        if not number:
            continue
        cells = round(room * number / standing.total)
        bar.append("━" * min(max(cells, 1), room - filled), style=COLOURS[state])
        filled = min(room, filled + max(cells, 1))
        legend.append(f"{number} {state}  ", style=COLOURS[state])
    figures = [f"{span(now - view.began)}", f"{view.rate(now):.1f} videos/min"]
    if (eta := view.eta(now)) is not None:
        figures.append(f"about {span(eta)} left")
    figures += [dollars(standing.cost_usd), size(standing.bytes)]
    lines = [Text(f"{view.batch}  ", style="bold") + Text(" · ".join(figures)), bar, legend]
    lines += [
        Text(f"  {waiting(wait, now)}", style="dim", overflow="ellipsis", no_wrap=True) for wait in view.waits[:3]
    ]
    lines += [Text(f"  {happened(event)}", overflow="ellipsis", no_wrap=True) for event in view.latest]
    return Group(*lines)


class Progress:
    """Follows a batch in the table until told to stop. `after` is the newest event that is already known."""

    def __init__(
        self,
        database: Database,
        batch_id: int,
        batch: str,
        after: int,
        *,
        as_json: bool = False,
        log: Path | None = None,
        stream: IO[str] | None = None,
    ) -> None:
        self.database, self.batch_id, self.batch, self.after = database, batch_id, batch, after
        self.stream = stream or sys.stderr
        self.live = self.stream.isatty() and not as_json
        self.as_json = as_json
        self.log = log.open("a", encoding="utf-8") if log else None
        self.quiet_since = clock.utcnow()

    async def follow(self, ended: asyncio.Event) -> None:
        """Show what happens until `ended` is set, and everything that had happened by then."""
        standing = await self.database.read(counts.standing, self.batch_id, clock.utcnow())
        view = View(self.batch, clock.utcnow(), standing.counts[State.DONE], standing)
        try:
            if self.live:
                await self.animate(view, ended)
            else:
                await self.loop(view, ended, lambda _view: None)
        finally:
            if self.log:
                self.log.close()

    async def animate(self, view: View, ended: asyncio.Event) -> None:
        from rich.console import Console
        from rich.live import Live

        console = Console(file=self.stream)
        with Live(console=console, auto_refresh=False, transient=True) as live:

            def draw(view: View) -> None:
                live.update(picture(view, clock.utcnow(), console.width), refresh=True)

            await self.loop(view, ended, draw)

    async def loop(self, view: View, ended: asyncio.Event, draw: Callable[[View], None]) -> None:
        while True:
            last = ended.is_set()
            for event in await self.database.read(counts.events_after, self.batch_id, self.after):
                self.after = event.id
                self.tell(event)
                view.latest = [*view.latest, event][-4:]
            if self.live:
                now = clock.utcnow()
                view.standing = await self.database.read(counts.standing, self.batch_id, now)
                view.waits = await self.database.read(counts.waits, self.batch_id, now)
                draw(view)
            else:
                await self.break_silence()
            if last:
                return
            try:
                await asyncio.wait_for(ended.wait(), LOOK_SECONDS)
            except TimeoutError:
                continue

    def tell(self, event: Event) -> None:
        """One event, to whoever reads lines."""
        self.quiet_since = clock.utcnow()
        if self.as_json:
            print(json.dumps(event_json(event), ensure_ascii=False), flush=True)
        elif not self.live:
            print(happened(event), file=self.stream, flush=True)
        if self.log:
            print(f"{event.at.astimezone():%Y-%m-%d} {happened(event)}", file=self.log, flush=True)

    async def break_silence(self) -> None:
        """After a while without a line, say what is waited for: a pause must not look like a hang."""
        now = clock.utcnow()
        if (now - self.quiet_since).total_seconds() < QUIET_SECONDS:
            return
        self.quiet_since = now
        for wait in await self.database.read(counts.waits, self.batch_id, now):
            line = f"{now.astimezone():%H:%M:%S}  {waiting(wait, now)}"
            print(line, file=self.stream, flush=True)
            if self.log:
                print(line, file=self.log, flush=True)
