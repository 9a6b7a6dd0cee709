"""What a person sees: text, the bar, the time left, and a display that is redrawn in place."""

from __future__ import annotations

import asyncio
import io
import os
import re
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import IO

import pytest
from freezegun.api import FrozenDateTimeFactory as Clock

from batchgen.catalogue.wording import plural
from batchgen.cli.closing import undelivered_lines
from batchgen.errors import ExitCode
from batchgen.jobs import State
from batchgen.jobtable.statistics import BatchSummary, Event
from batchgen.limits import steering
from batchgen.limits.blockers import Blocker
from batchgen.report import hints
from batchgen.report.formats import dollars, duration, local_time, shortened
from batchgen.report.live_view import LiveView, bar_columns, render
from batchgen.report.progress import SILENCE, RunProgress
from batchgen.report.terminal import OutputStream, RedrawnLines
from batchgen.report.words import (
    APPEARANCES,
    blocker_line,
    event_line,
    reasons_command,
    remark_lines,
    state_counts,
    summary_line,
)
from batchgen.runs.ending import Ending
from tests.conftest import NOON
from tests.table import SECOND, Table
from tests.waiting import until


def batch_summary(
    held: int = 0, late: int = 0, stuck: int = 0, cost: str = "0", unpriced: int = 0, size: int = 0, **counts: int
) -> BatchSummary:
    return BatchSummary(
        {state: counts.get(state, 0) for state in State}, held, late, stuck, Decimal(cost), Decimal(0), unpriced, size
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (dollars(Decimal(0)), "$0.00"),
        (dollars(Decimal("1234.5")), "$1,234.50"),
        (dollars(Decimal("0.2941000")), "$0.2941"),
        (dollars(Decimal("1E+2")), "$100.00"),
        (duration(timedelta(seconds=59.4)), "59 s"),
        (duration(timedelta(seconds=60)), "1 m 00 s"),
        (duration(timedelta(hours=2, minutes=5)), "2 h 05 m"),
        (duration(timedelta(seconds=-3)), "0 s"),
        (plural(1, "job"), "1 job"),
        (plural(0, "job"), "0 jobs"),
        (shortened(["a", "b", "c"], limit=2), "a, b and 1 more"),
        (state_counts(batch_summary()), "no jobs"),
        (
            state_counts(batch_summary(pending=2, unconfirmed=1, held=1)),
            "2 pending, 1 unconfirmed (1 held for a person)",
        ),
        (summary_line("b", "aimlapi", batch_summary(pending=1)), "b: 1 pending; $0.00"),
        (
            summary_line("b", "aimlapi", batch_summary(done=2, unpriced=2)),
            "b: 2 done; $0.00 and 2 charges not known yet",
        ),
        (
            summary_line("b", "aimlapi", replace(batch_summary(done=2, unpriced=2), reserved_usd=Decimal("1.47"))),
            "b: 2 done; $0.00 and 2 charges not known yet, and $1.47 reserved for what is not charged yet",
        ),
        (
            summary_line("b", "simulator", batch_summary(done=1, size=2000, cost="1")),
            "b: 1 done; 2.0 kB; $1.00 (simulated)",
        ),
        (blocker_line(Blocker("x", None, 1), NOON), "1 job waits for x"),
        (blocker_line(Blocker("x", NOON, 2), NOON), "2 jobs wait for x"),
        (blocker_line(Blocker("x", NOON + 9 * SECOND, 2), NOON), "2 jobs wait for x; next check in 9 s"),
    ],
)
def test_amounts_times_and_counts_are_written_for_people(text: str, expected: str) -> None:
    assert text == expected


def test_a_time_for_a_person_has_its_date_unless_that_is_today_s() -> None:
    assert re.fullmatch(r"\d\d:\d\d", local_time(NOON, NOON))
    assert re.fullmatch(r"2026-03-0[34] \d\d:\d\d", local_time(NOON + timedelta(days=2), NOON))


@pytest.mark.parametrize("columns", [3, 10, 78])
@pytest.mark.parametrize(
    "counts",
    [
        {State.DONE: 1},
        {State.DONE: 999_999, State.FAILED: 1},
        {State.DONE: 1, State.GENERATING: 1, State.PENDING: 1},
        dict.fromkeys(State, 1),
    ],
    ids=["one", "almost all", "thirds", "every state"],
)
def test_the_bar_shows_every_state_and_fits_the_width(counts: dict[State, int], columns: int) -> None:
    bar = bar_columns(replace(batch_summary(), counts={**dict.fromkeys(State, 0), **counts}), columns)
    assert set(bar) == set(counts)
    assert min(bar.values()) >= 1
    assert sum(bar.values()) == max(columns, len(counts))


def test_an_empty_batch_has_an_empty_bar() -> None:
    assert bar_columns(batch_summary(), 78) == {}


def view_of(summary: BatchSummary) -> LiveView:
    return LiveView("b", NOON, 0, summary)


def event(key: str, seconds: int, to: State) -> Event:
    return Event(0, NOON + seconds * SECOND, key, None, to, None)


def test_the_time_left_follows_from_how_long_videos_take_and_how_many_are_made_at_once() -> None:
    view = view_of(batch_summary(done=1, generating=10, pending=89))
    assert view.time_left(NOON + 200 * SECOND) is None
    for key in ("a", "b"):
        view.record(event(key, 0, State.SUBMITTING))
    view.record(event("a", 200, State.DONE))
    # 89 more at ten each 200 s, and the last takes 200 s itself: not the 200 s for each that the first one took.
    assert view.time_left(NOON + 200 * SECOND) == timedelta(seconds=200 * (1 + 8.9))

    view.summary = batch_summary(done=99, generating=1)
    assert view.time_left(NOON + 150 * SECOND) == 50 * SECOND
    assert view.time_left(NOON + 250 * SECOND) is None
    view.summary = batch_summary(done=99, unconfirmed=1, held=1)
    assert view.time_left(NOON + 250 * SECOND) is None


def test_the_display_fits_any_width() -> None:
    view = view_of(batch_summary(done=3, generating=4, pending=5, failed=1, late=1, cost="12.5", size=10_000))
    view.blockers = [Blocker("generations at the service", NOON + SECOND * 90, 4)]
    view.events.append(Event(1, NOON, "a-very-long-name " * 20, State.PENDING, State.FAILED, "because\nof reasons"))
    view.notice = "stopping"
    for width in (12, 40, 200):
        stream = io.StringIO()
        display = RedrawnLines(stream)
        display.console.width, display.console.height = width, 50
        display.draw(render(view, NOON + SECOND, width))
        assert max(display.widths) < width
        assert max(map(len, stream.getvalue().splitlines())) < width
        assert "stopping" in stream.getvalue()


def test_a_display_replaces_the_last_one_even_if_the_terminal_has_become_narrower() -> None:
    stream = io.StringIO()
    display = RedrawnLines(stream)
    display.console.width, display.console.height = 100, 50
    display.draw("x" * 60 + "\nshort")
    assert stream.getvalue() == "x" * 60 + "\nshort\n"
    display.console.width = 40  # now the long line lies folded on two rows
    display.draw("new")
    assert stream.getvalue().endswith("\nshort\n\x1b[3A\r\x1b[Jnew\n")
    display.close()
    assert stream.getvalue().endswith("new\n\x1b[1A\r\x1b[J")


def test_a_display_is_cut_to_the_terminal_s_height() -> None:
    stream = io.StringIO()
    display = RedrawnLines(stream)
    display.console.width, display.console.height = 80, 3
    display.draw("a\nb\nc\nd")
    assert stream.getvalue() == "a\nb\n"


def test_a_line_that_nobody_can_read_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream:
        output = OutputStream(stream)
        output.write("to nobody")
        output.write("nor this")
        assert isinstance(output.failure, BrokenPipeError)
    full = Path("/dev/full")
    if full.exists():
        with full.open("w") as stream:
            output = OutputStream(stream)
            output.write("does not fit")
            assert output.failure


def progress_of(table: Table, after: int, stream: IO[str], notice: str) -> RunProgress:
    following = "batchgen {}".format
    return RunProgress(
        table.database, table.batch_id, "b", after, following, lambda: (notice, hints.advice("")), stream=stream
    )


async def test_a_run_that_has_ended_already_still_shows_its_events_and_its_notice(table: Table) -> None:
    table.sync("mona")
    stream, ended = io.StringIO(), asyncio.Event()
    ended.set()
    progress = progress_of(table, 0, stream, "the balance is low")
    await progress.follow(ended)
    event, notice = stream.getvalue().splitlines()
    assert "  mona  pending" in event
    assert notice.endswith("the balance is low")


async def test_what_happened_before_a_notice_stands_above_it(table: Table) -> None:
    table.sync("mona")
    stream, notice = io.StringIO(), ""
    progress = progress_of(table, 0, stream, "")
    progress.notice = lambda: (notice, hints.advice(""))
    async with progress.following():
        await asyncio.to_thread(until, lambda: "mona  pending" in stream.getvalue())
        table.sync("mona", "lisa")
        notice = "the balance is low"
        await asyncio.to_thread(until, lambda: notice in stream.getvalue())
    assert [line.split("  ")[1] for line in stream.getvalue().splitlines()] == ["mona", "lisa", notice]


@pytest.mark.parametrize("notice", ["no more submits: 403", ""], ids=["a run that says why", "a run that says nothing"])
@pytest.mark.parametrize("waits_for", ["free place", "batchgen resume"])
async def test_what_pending_jobs_wait_for_is_shown_unless_the_run_says_why_it_sends_nothing(
    table: Table, clock: Clock, notice: str, waits_for: str
) -> None:
    table.sync("mona")
    if waits_for == "batchgen resume":
        table.change(steering.pause, table.batch_id, table.now, "anna@host")
    stream = io.StringIO()
    progress = progress_of(table, 10**9, stream, notice)
    progress.last_line_at = NOON - SILENCE
    ended = asyncio.Event()
    ended.set()
    await progress.follow(ended)
    assert (waits_for in stream.getvalue()) is (not notice), stream.getvalue()


def test_a_run_names_what_lists_all_failures() -> None:
    ending = Ending(ExitCode.INCOMPLETE, "", batch_summary(failed=36))
    lines = undelivered_lines(ending, ["a failed: x"] * 5, "`batchgen sql m.yaml …`", "`batchgen retry m.yaml`")
    assert lines == ["a failed: x"] * 5 + ["and 31 more; `batchgen sql m.yaml …` lists them all"]


def test_a_retry_is_not_advised_for_what_a_person_gave_up() -> None:
    summary = replace(batch_summary(failed=1), held=1)
    for given_up in (0, 1):
        ending = Ending(ExitCode.INCOMPLETE, "", summary, given_up=given_up)
        assert len(undelivered_lines(ending, [], "", "`batchgen retry m.yaml`")) == 1 - given_up + 1


def test_remarks_that_are_not_all_say_what_lists_them() -> None:
    command = reasons_command("batchgen sql m.yaml", "ann's", State.DONE)
    query = "SELECT id, reason FROM job_overview WHERE batch = 'ann''s' AND state = 'done' AND reason IS NOT NULL"
    assert command == f'`batchgen sql m.yaml --csv "{query}"`'
    assert remark_lines(["a", "b"], 3, command) == ["remark: a", "remark: b"]
    assert remark_lines(["a", "b"], 2, command)[2:] == [f"these are the newest remarks; {command} lists them all"]


def test_every_state_has_an_appearance() -> None:
    assert set(APPEARANCES) == set(State)


@pytest.mark.parametrize(
    ("left", "entered", "detail", "words"),
    [
        (None, State.PENDING, "added", "pending"),
        (State.SUBMITTING, State.PENDING, "429", "back to pending: 429"),
        (State.PENDING, State.PENDING, "ordered again", "pending: ordered again"),
        (State.DONE, State.DONE, "archived as mona~1", "done: archived as mona~1"),
    ],
)
def test_an_event_that_changes_no_state_is_a_remark(
    left: State | None, entered: State, detail: str, words: str
) -> None:
    assert event_line(Event(1, NOON, "mona", left, entered, detail)).partition("mona  ")[2].startswith(words)
