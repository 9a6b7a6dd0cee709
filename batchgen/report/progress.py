"""What a person watches while a batch runs: a live picture on a terminal, plain lines elsewhere, all from the table."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import deque
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import IO

from batchgen import clock
from batchgen.jobs import State
from batchgen.jobtable import statistics
from batchgen.jobtable.database import Database
from batchgen.jobtable.statistics import Event
from batchgen.report.picture import View, paint
from batchgen.report.screen import Outlet, Screen
from batchgen.report.words import event_json, happened, waiting

LOOK_SECONDS = 0.25
QUIET_SECONDS = 30.0  # without a line, before plain output says what is waited for
LATEST = 4  # events under the picture
IN_PASSING = frozenset({State.SUBMITTING, State.DOWNLOADING})
"""States that a job leaves so soon that a screen has better things to show."""


class Progress:
    """Follows a batch in the table until told to stop. `after` is the newest event that is already known.

    `notice` is asked what the run has to say for itself, such as that it is stopping.
    """

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
        notice: Callable[[], str] = str,
    ) -> None:
        self.database, self.batch_id, self.batch, self.after = database, batch_id, batch, after
        stream = stream or sys.stderr
        self.lines, self.results = Outlet(stream), Outlet(sys.stdout)
        self.as_json = as_json
        self.screen = Screen(stream) if stream.isatty() and not as_json else None
        if self.screen and not self.screen.usable:
            self.screen = None
        self.file = log.open("a", encoding="utf-8") if log else None
        self.log = Outlet(self.file) if self.file else None
        self.notice, self.noticed = notice, ""
        self.quiet_since = clock.utcnow()

    async def follow(self, ended: asyncio.Event) -> None:
        """Show what happens until `ended` is set, and everything that had happened by then."""
        batch_summary = await self.database.read(statistics.batch_summary, self.batch_id, clock.utcnow())
        view = View(
            self.batch, clock.utcnow(), batch_summary.counts[State.DONE], batch_summary, latest=deque(maxlen=LATEST)
        )
        try:
            await self.loop(view, ended)
        finally:
            if self.screen:
                self.screen.close()
            if self.file:
                self.file.close()

    async def loop(self, view: View, ended: asyncio.Event) -> None:
        while True:
            last = ended.is_set()
            self.pass_on_notice()
            await self.catch_up(view)
            if self.screen:
                await self.draw(view)
            else:
                await self.break_silence()
            if last:
                return
            try:
                await asyncio.wait_for(ended.wait(), LOOK_SECONDS)
            except TimeoutError:
                continue

    async def catch_up(self, view: View) -> None:
        """Tell all that has happened since the last look."""
        while True:
            events, upto = await self.database.read(statistics.events_since, self.batch_id, self.after)
            if upto == self.after:
                return
            self.after = upto
            for event in events:
                self.tell(event)
                view.learn(event)
                if event.to_state not in IN_PASSING:
                    view.latest.append(event)

    async def draw(self, view: View) -> None:
        assert self.screen
        now = clock.utcnow()
        view.batch_summary = await self.database.read(statistics.batch_summary, self.batch_id, now)
        view.blockers = await self.database.read(statistics.blockers, self.batch_id, now)
        view.notice = self.noticed
        self.screen.draw(paint(view, now, self.screen.console.width))

    def tell(self, event: Event) -> None:
        """One event, to whoever reads lines."""
        self.quiet_since = clock.utcnow()
        if self.as_json:
            self.results.say(json.dumps(event_json(event), ensure_ascii=False))
        elif not self.screen:
            self.lines.say(happened(event))
        if self.log:
            self.log.say(f"{event.at.astimezone():%Y-%m-%d} {happened(event)}")

    def remark(self, line: str) -> None:
        """A line that is no event."""
        now = clock.utcnow().astimezone()
        if not self.screen:
            self.lines.say(f"{now:%H:%M:%S}  {line}")
        if self.log:
            self.log.say(f"{now:%Y-%m-%d %H:%M:%S}  {line}")

    def pass_on_notice(self) -> None:
        if (notice := self.notice()) != self.noticed:
            self.noticed = notice
            if notice:
                self.remark(notice)

    async def break_silence(self) -> None:
        """After a while without a line, say what is waited for: a pause must not look like a hang."""
        now = clock.utcnow()
        if now - self.quiet_since < timedelta(seconds=QUIET_SECONDS):
            return
        self.quiet_since = now
        for wait in await self.database.read(statistics.blockers, self.batch_id, now):
            self.remark(waiting(wait, now))
