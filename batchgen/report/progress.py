"""The progress of a run, read from the job table: a live display on a terminal, lines or JSON elsewhere, a log file."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import IO, TYPE_CHECKING

from batchgen import clock
from batchgen.hooks.delivery_hook import HookResult
from batchgen.jobs import State
from batchgen.jobtable import settings, statistics
from batchgen.jobtable.database import Database
from batchgen.jobtable.kinds import SettingName
from batchgen.jobtable.statistics import Event
from batchgen.limits import blockers
from batchgen.limits.blockers import Blocker, WaitKind
from batchgen.report.hints import ToType, advice
from batchgen.report.live_view import LiveView, render
from batchgen.report.run_events import Advice, Hooked, Notice, NotificationFailed, Waiting
from batchgen.report.settings import steered_json, steered_line
from batchgen.report.terminal import OutputStream, RedrawnLines, drop_unread, print_json, results
from batchgen.report.words import blocker_json, blocker_line, event_json, event_line
from batchgen.stage import wait_for

if TYPE_CHECKING:
    from batchgen.runner import Runner

READ_SECONDS = 1.0  # between two reads of the table: a person needs no more, and a run has better use for the disk
NOTICE_SECONDS = 0.25  # between two checks of the notice, which needs no read: Ctrl-C is answered at once
CAUSE_AGAIN = timedelta(minutes=10)  # between two lines about one cause for which jobs wait
SAID_BY_NOTICE = (WaitKind.PLACE, WaitKind.RESUME)
SILENCE = timedelta(seconds=30)  # then plain output says what the batch waits for: a pause must not look like a hang


class RunProgress:
    """Shows what happens to a batch, from the event after `after` on, until it is told to stop.

    `notice` returns what the run itself has to say, and what to do about it. Without a `runner`, the batch is only
    watched.
    """

    def __init__(
        self,
        database: Database,
        batch_id: int,
        batch: str,
        after: int,
        to_type: ToType,
        notice: Callable[[], tuple[str, Advice]],
        *,
        as_json: bool = False,
        log: IO[str] | None = None,
        stream: IO[str] | None = None,
        runner: Runner | None = None,
        is_one_of_many: bool = False,
    ) -> None:
        stream = stream or sys.stderr
        self.database, self.batch_id, self.batch, self.last_event = database, batch_id, batch, after
        self.lines = OutputStream(stream)
        self.as_json = as_json
        self.prefix = f"{batch}: " if is_one_of_many else ""
        """Before each line of one of several batches, which share the screen. Their JSON names the batch."""
        self.display = RedrawnLines(stream) if stream.isatty() and not as_json and not is_one_of_many else None
        if self.display and not self.display.is_supported:
            self.display = None
        self.log = OutputStream(log) if log else None
        self.notice, self.shown_notice = notice, ""
        self.to_type, self.runner = to_type, runner
        self.last_setting = 0
        """The newest setting that was shown, or was there before."""
        self.origin = runner.context.service.origin if runner else None
        """Of the service in use: jobs that were sent elsewhere are shown as such."""
        self.last_line_at = clock.utcnow()
        self.hook_results: deque[tuple[str, HookResult | str, datetime]] = deque()
        """What hooks came to, and is not shown yet."""
        self.shown_causes: dict[str, datetime] = {}
        """When each cause was last shown for which jobs wait, without the figures in it."""

    async def follow(self, ended: asyncio.Event) -> None:
        """Show what happens until `ended` is set, and everything that had happened by then."""
        now = clock.utcnow()
        summary = await self.database.read(statistics.batch_summary, self.batch_id, now)
        view = LiveView(self.batch, now, summary.counts[State.DONE], summary)
        self.last_setting = await self.database.read(settings.newest, self.batch_id)
        try:
            while True:
                await self.until_read(ended)
                is_last = ended.is_set()
                await self.show_news(view, ended)
                await self.show_hooks(ended)
                await self.show_settings(view)
                await self.show_summary(view)
                if is_last:
                    await self.until_read(ended)  # the result comes next
                    return
                await self.wait(ended, view)
        finally:
            if self.display:
                self.display.close()

    @asynccontextmanager
    async def following(self) -> AsyncIterator[asyncio.Task[None]]:
        """Show what happens meanwhile, in a task of its own, and at the end everything that had happened by then."""
        ended = asyncio.Event()
        task = asyncio.create_task(self.follow(ended))
        try:
            yield task
        finally:
            ended.set()
            await task

    async def wait(self, ended: asyncio.Event, view: LiveView) -> None:
        """Wait until it is time to read the table again, or the run has ended. A new notice is shown meanwhile."""
        for _ in range(round(READ_SECONDS / NOTICE_SECONDS)):
            is_over = await wait_for(ended, NOTICE_SECONDS)
            if self.display:
                self.show_notice(view, *self.notice())
            elif self.notice()[0] != self.shown_notice:
                await self.show_news(view, ended)
            if is_over:
                return

    @property
    def is_read(self) -> bool:
        return self.lines.is_read() and (not self.as_json or OutputStream(results()).is_read())

    async def until_read(self, ended: asyncio.Event) -> None:
        """Wait for whoever reads the lines, while the run goes on: a write that has to wait would hold up the run.

        Further signals are ignored once one has ended the run: then it waits for no reader that does not read.
        """
        while not self.is_read:
            if ended.is_set() and self.runner and self.runner.signal:
                await asyncio.to_thread(drop_unread)
            await asyncio.sleep(NOTICE_SECONDS)

    async def show_news(self, view: LiveView, ended: asyncio.Event) -> None:
        """Show every event since the last read, and the notice under what has happened before it."""
        notice = self.notice()
        await self.show_events(view, ended)
        self.show_notice(view, *notice)

    async def show_events(self, view: LiveView, ended: asyncio.Event) -> None:
        """Show every event since the last read, a page at a time."""
        while events := await self.database.read(statistics.events_since, self.batch_id, self.last_event):
            self.last_event = events[-1].id
            for event in events:
                await self.until_read(ended)
                self.write_event(event)
                view.record(event)

    async def show_settings(self, view: LiveView) -> None:
        for setting in await self.database.read(settings.since, self.batch_id, self.last_setting):
            self.last_setting, now = setting.id, clock.utcnow()
            line = steered_line(setting, now)
            is_pause = setting.name is SettingName.PAUSED and setting.value is not None
            if line and not (is_pause and self.runner):  # whose notice says more
                self.write_remark(line)
                view.change = f"{setting.set_at.astimezone():%H:%M:%S}  {line}"
            if self.as_json and setting.name is not SettingName.MANIFEST:
                self.print(steered_json(setting, now))

    async def show_summary(self, view: LiveView) -> None:
        """Redraw the display; without one, say what the batch waits for when nothing has been written for a while."""
        now = clock.utcnow()
        if self.display:
            view.summary = await self.database.read(statistics.batch_summary, self.batch_id, now)
            view.blockers = await self.read_blockers(now)
            self.display.draw(render(view, clock.utcnow(), self.display.console.width))
        elif now - self.last_line_at >= SILENCE:
            self.last_line_at = now
            for blocker in await self.read_blockers(now):
                self.write_blocker(blocker, now)
        if self.log or not self.display:
            for blocker in await self.database.read(blockers.lasting_causes, self.batch_id):
                cause = blockers.without_figures(f"{blocker.reason}: {blocker.cause}")
                if cause not in self.shown_causes or now - self.shown_causes[cause] >= CAUSE_AGAIN:
                    self.shown_causes[cause] = now
                    self.write_blocker(blocker, now)

    async def read_blockers(self, now: datetime) -> list[Blocker]:
        """What the batch waits for. Where the run itself says why it does less, it says what pending jobs wait for."""
        waiting = await self.database.read(blockers.blockers, self.batch_id, now, self.origin)
        return [blocker for blocker in waiting if not (self.shown_notice and blocker.kind in SAID_BY_NOTICE)]

    def print(self, event: Mapping[str, object]) -> None:
        print_json({**event, "batch": self.batch} if self.prefix else event, is_progress=True)

    def write_blocker(self, blocker: Blocker, now: datetime) -> None:
        self.write_remark(blocker_line(blocker, now))
        if self.as_json:
            wait = blocker_json(blocker, self.to_type)
            self.print(Waiting(event="waiting", batch=self.batch, at=now, **wait))

    def show_notice(self, view: LiveView, notice: str, what_to_do: Advice) -> None:
        if notice == self.shown_notice or not self.is_read:
            return
        self.shown_notice = view.notice = notice
        if notice:
            self.write_remark(notice)
        if self.as_json:
            now = clock.utcnow()
            self.print(Notice(event="notice", batch=self.batch, at=now, message=notice, **what_to_do))
        if self.display:
            self.display.draw(render(view, clock.utcnow(), self.display.console.width))

    def write_event(self, event: Event) -> None:
        self.last_line_at = clock.utcnow()
        event.log()
        if self.as_json:
            self.print(event_json(event))
        elif not self.display:
            self.lines.write(f"{self.prefix}{event_line(event)}")
        if self.log:
            self.log.write(f"{event.at.astimezone():%Y-%m-%d} {event_line(event)}")

    def add_hook(self, same_command: str, result: HookResult | str) -> None:
        """The command of `--exec` ended for a file, or a notification failed. It is shown once somebody reads."""
        self.hook_results.append((same_command, result, clock.utcnow()))

    async def show_hooks(self, ended: asyncio.Event) -> None:
        while self.hook_results:
            await self.until_read(ended)
            self.write_hook(*self.hook_results.popleft())

    def write_hook(self, same_command: str, result: HookResult | str, now: datetime) -> None:
        event: Hooked | NotificationFailed
        if isinstance(result, str):
            check = advice("check the address of the receiver; the run goes on without it")
            event = NotificationFailed(event="notification_failed", at=now, message=result, **check)
        else:
            code, path, message = result.exit_code, result.path, result.message
            again = advice("the next run with the same --exec starts it again", same_command) if code else advice("")
            event = Hooked(event="hook", at=now, id=result.key, path=path, exit_code=code, message=message, **again)
        if self.as_json:
            self.print(event)
        if isinstance(result, str) or result.exit_code:
            self.write_remark(str(result))

    def write_remark(self, line: str) -> None:
        """Write a line that belongs to no event."""
        now = clock.utcnow().astimezone()
        if not self.display:
            self.lines.write(f"{self.prefix}{now:%H:%M:%S}  {line}")
        if self.log:
            self.log.write(f"{now:%Y-%m-%d %H:%M:%S}  {line}")
