"""What a person sees: words, the bar, the time that is left, and a picture drawn over in place."""

from __future__ import annotations

import io
import os
from collections import deque
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from batchgen.jobs import State
from batchgen.jobtable.statistics import BatchSummary, Blocker, Event
from batchgen.report.picture import View, paint, shares
from batchgen.report.screen import Outlet, Screen
from batchgen.report.words import counted, dollars, plural, shortened, size, span, summary, waiting

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def batch_summary(
    held: int = 0, late: int = 0, stuck: int = 0, cost: str = "0", size: int = 0, **numbers: int
) -> BatchSummary:
    return BatchSummary({state: numbers.get(state, 0) for state in State}, held, late, stuck, Decimal(cost), size)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (dollars(Decimal(0)), "$0.00"),
        (dollars(Decimal("1234.5")), "$1,234.50"),
        (dollars(Decimal("0.2941000")), "$0.2941"),
        (dollars(Decimal("1E+2")), "$100.00"),
        (size(999), "999 B"),
        (size(1_627_089), "1.6 MB"),
        (size(5_000_000_000_000), "5000.0 GB"),
        (span(timedelta(seconds=59.4)), "59 s"),
        (span(timedelta(seconds=60)), "1 m 00 s"),
        (span(timedelta(hours=2, minutes=5)), "2 h 05 m"),
        (span(timedelta(seconds=-3)), "0 s"),
        (plural(1, "job"), "1 job"),
        (plural(0, "job"), "0 jobs"),
        (shortened(["a", "b", "c"], most=2), "a, b and 1 more"),
        (counted(batch_summary()), "no jobs"),
        (
            counted(batch_summary(pending=2, unconfirmed=1, held=1)),
            "2 pending, 1 unconfirmed, 1 of them held for a person",
        ),
        (summary("b", "aimlapi", batch_summary(pending=1)), "b: 1 pending; $0.00"),
        (summary("b", "simulator", batch_summary(done=1, size=2000, cost="1")), "b: 1 done; 2.0 kB; $1.00 (simulated)"),
        (waiting(Blocker("x", None, 1), NOON), "1 job waits for x"),
        (waiting(Blocker("x", NOON, 2), NOON), "2 jobs wait for x"),
        (waiting(Blocker("x", NOON + 9 * SECOND, 2), NOON), "2 jobs wait for x: next look in 9 s"),
    ],
)
def test_words(told: str, expected: str) -> None:
    assert told == expected


@pytest.mark.parametrize("columns", [3, 10, 78])
@pytest.mark.parametrize(
    "numbers",
    [
        {State.DONE: 1},
        {State.DONE: 999_999, State.FAILED: 1},
        {State.DONE: 1, State.GENERATING: 1, State.PENDING: 1},
        dict.fromkeys(State, 1),
    ],
    ids=["one", "almost all", "thirds", "every state"],
)
def test_the_bar_shows_every_state_and_fits(numbers: dict[State, int], columns: int) -> None:
    shared = shares(BatchSummary({**dict.fromkeys(State, 0), **numbers}, 0, 0, 0, Decimal(0), 0), columns)
    assert set(shared) == set(numbers)
    assert min(shared.values()) >= 1
    assert sum(shared.values()) == max(columns, len(numbers))


def test_an_empty_batch_has_an_empty_bar() -> None:
    assert shares(batch_summary(), 78) == {}


def view(now: BatchSummary) -> View:
    return View("b", NOON, 0, now, deque(maxlen=4))


def event(key: str, seconds: int, to: State) -> Event:
    return Event(0, NOON + seconds * SECOND, key, None, to, None)


def test_the_time_left_follows_from_how_long_videos_take_and_how_many_are_made_at_once() -> None:
    seen = view(batch_summary(done=1, generating=10, pending=89))
    assert seen.eta(NOON + 200 * SECOND) is None
    for key in ("a", "b"):
        seen.learn(event(key, 0, State.SUBMITTING))
    seen.learn(event("a", 200, State.DONE))
    # 89 more at ten each 200 s, and the last takes 200 s itself: not the 200 s for each that the first one took.
    assert seen.eta(NOON + 200 * SECOND) == timedelta(seconds=200 * (1 + 8.9))

    seen.batch_summary = batch_summary(done=99, generating=1)
    assert seen.eta(NOON + 150 * SECOND) == 50 * SECOND
    assert seen.eta(NOON + 250 * SECOND) is None
    seen.batch_summary = batch_summary(done=99, unconfirmed=1, held=1)
    assert seen.eta(NOON + 250 * SECOND) is None


def test_the_picture_fits_any_width() -> None:
    seen = view(batch_summary(done=3, generating=4, pending=5, failed=1, late=1, cost="12.5", size=10_000))
    seen.blockers = [Blocker("generations at the service", NOON + SECOND * 90, 4)]
    seen.latest.append(Event(1, NOON, "a-very-long-name " * 20, State.PENDING, State.FAILED, "because\nof reasons"))
    seen.notice = "stopping"
    for width in (12, 40, 200):
        stream = io.StringIO()
        screen = Screen(stream)
        screen.console.width, screen.console.height = width, 50
        screen.draw(paint(seen, NOON + SECOND, width))
        assert max(screen.widths) < width
        assert max(map(len, stream.getvalue().splitlines())) < width
        assert "stopping" in stream.getvalue()


def test_a_picture_takes_the_last_ones_place_even_if_the_terminal_has_become_narrower() -> None:
    stream = io.StringIO()
    screen = Screen(stream)
    screen.console.width, screen.console.height = 100, 50
    screen.draw("x" * 60 + "\nshort")
    assert stream.getvalue() == "x" * 60 + "\nshort\n"
    screen.console.width = 40  # now the long line lies folded on two rows
    screen.draw("new")
    assert stream.getvalue().endswith("\nshort\n\x1b[3A\r\x1b[Jnew\n")
    screen.close()
    assert stream.getvalue().endswith("new\n\x1b[1A\r\x1b[J")


def test_a_picture_is_cut_to_the_terminals_height() -> None:
    stream = io.StringIO()
    screen = Screen(stream)
    screen.console.width, screen.console.height = 80, 3
    screen.draw("a\nb\nc\nd")
    assert stream.getvalue() == "a\nb\n"


def test_a_line_that_nobody_can_have_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream:
        outlet = Outlet(stream)
        outlet.say("to nobody")
        outlet.say("nor this")
    full = Path("/dev/full")
    if full.exists():
        with full.open("w") as stream:
            Outlet(stream).say("does not fit")
