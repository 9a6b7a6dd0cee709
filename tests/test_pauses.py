"""A pause that a service asks for is read with doubt: a moment as a moment, and what cannot be meant not at all."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from freezegun.api import FrozenDateTimeFactory as Clock

import batchgen
from batchgen import clock as batch_clock
from batchgen.jobtable.database import Database
from batchgen.jobtable.kinds import LimitKind
from batchgen.limits import rate
from batchgen.limits.rate import LimitKey
from batchgen.scheduler import Scheduler
from batchgen.services.answers import read_pause, read_throttled
from batchgen.services.boundary import BoundedService
from batchgen.services.http import Answer
from batchgen.services.outcomes import PAUSE_MAX, Limit, Throttled
from tests.batches import write_manifest
from tests.conftest import NOON, Simulate
from tests.scripted import ScriptedService, context_of, turn
from tests.table import Table
from tests.test_limits_learned import learning

LATER = NOON + timedelta(seconds=90)
EPOCH = LATER.timestamp()
HOUR = timedelta(hours=1)


def answer(**headers: str) -> Answer:
    lines = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(429, "Too Many Requests", lines, b'{"message": "slow"}')


READ = [
    ("7", 7),
    ("0", 0),
    ("0.5", 0.5),
    (" 7 ", 7),
    ("7.0", 7),
    ("1e1", 10),
    ("60000", 60_000),  # a minute in milliseconds, or 17 hours: nobody can tell, so it is not waited out
    ("86400", 86_400),
    (f"{EPOCH:.0f}", 90),
    (f"{EPOCH:.3f}", 90),
    (f"{EPOCH * 1e3:.0f}", 90),
    (f"{EPOCH * 1e6:.0f}", 90),
    (f"{EPOCH * 1e9:.0f}", 90),
    ("Sun, 01 Mar 2026 12:01:30 GMT", 90),
    ("Sun, 01 Mar 2026 13:01:30 +0100", 90),
    ("2026-03-01T12:01:30Z", 90),
    ("2026-03-01T13:01:30+01:00", 90),
    ("2026-03-01 12:01:30", 90),
    ("1764140000", None),  # a moment that is over
    ("Sun, 01 Mar 2026 11:00:00 GMT", None),
    ("Fri, 31 Dec 9999 23:59:59 GMT", None),
    ("-3", None),
    ("30s", None),
    ("inf", None),
    ("nan", None),
    ("9e99", None),
    ("99999999", None),  # three years
    ("1" * 400, None),
    ("20260301", 20_260_301),  # a date is no moment; eight months are not waited out
    ("soon", None),
    ("7 parsecs", None),
    ("7, 7", None),
    ("", None),
]


@pytest.mark.parametrize(("value", "seconds"), READ, ids=[value[:40] or "empty" for value, _ in READ])
def test_a_pause_is_a_duration_or_a_moment(value: str, seconds: float | None) -> None:
    pause = read_pause(value, NOON)
    assert (None if pause is None else pause.total_seconds()) == (seconds and pytest.approx(seconds, abs=0.001))


@pytest.mark.usefixtures("clock")
def test_a_moment_is_of_the_server_s_clock() -> None:
    """Its clock is ten minutes ahead, so it means in 30 seconds."""
    slow = answer(date="Sun, 01 Mar 2026 12:10:00 GMT", retry_after="Sun, 01 Mar 2026 12:10:30 GMT")
    assert read_throttled(slow).retry_after == timedelta(seconds=30)


def test_the_standard_header_comes_first_and_one_that_cannot_be_read_is_passed_over() -> None:
    assert read_throttled(answer(retry_after="7", x_ratelimit_reset="70")).retry_after == timedelta(seconds=7)
    assert read_throttled(answer(retry_after="soon", x_ratelimit_reset="70")).retry_after == timedelta(seconds=70)


@pytest.mark.parametrize(
    ("pause", "words"),
    [
        (timedelta(seconds=299), ""),
        (timedelta(minutes=10), "; it asks to wait 10 minutes"),
        (timedelta(seconds=60_000), "; it asks to wait 17 hours"),
        (timedelta(days=30), "; it asks to wait 30 days"),
    ],
)
async def test_a_long_pause_is_said_and_not_believed(pause: timedelta, words: str) -> None:
    outcome = await BoundedService(ScriptedService([Throttled("429: slow", pause)])).submit(None)  # type: ignore[arg-type]
    assert outcome == Throttled(f"429: slow{words}", min(pause, PAUSE_MAX))


@pytest.mark.parametrize("pause", [timedelta(seconds=60_000), timedelta(days=20_000)], ids=["17 hours", "an epoch"])
async def test_a_long_pause_is_tried_again_by_one_request_and_teaches_nothing(
    table: Table, clock: Clock, pause: timedelta
) -> None:
    table.sync("mona", "lisa", "vinci")
    service = ScriptedService([Throttled("429: slow", pause)])
    context = learning(table, service)
    context.service = BoundedService(service)
    scheduler = Scheduler(context, 8)
    await turn(scheduler)
    sent = len(service.submitted)
    before = table.change(rate.learned, LimitKey("aimlapi", LimitKind.SUBMITS, service.account, "m"))
    for minutes in (5, 10, 15, 15):
        assert await turn(scheduler) == batch_clock.utcnow() + timedelta(minutes=minutes)
        assert "the service asks to slow down" in context.wait_reason
        assert "quota" not in context.wait_reason
        assert "it asks to wait" in context.wait_reason
        clock.tick(timedelta(minutes=minutes))
        await turn(scheduler)
        sent += 1
        assert len(service.submitted) == sent, "one request at a time"
    assert table.change(rate.learned, LimitKey("aimlapi", LimitKind.SUBMITS, service.account, "m")) == before


async def test_a_quota_is_called_so_where_the_service_does(table: Table, clock: Clock) -> None:
    table.sync("mona")
    service = ScriptedService([Throttled("429: daily quota", HOUR, limit=Limit.QUOTA), Throttled("429: slow", HOUR)])
    context = context_of(table, service)
    scheduler = Scheduler(context, 8)
    await turn(scheduler)
    await turn(scheduler)
    assert context.wait_reason == "the account's quota is used up (429: daily quota)"
    clock.tick(timedelta(minutes=5))
    await turn(scheduler)
    await turn(scheduler)
    assert context.wait_reason == "the service asks to slow down (429: slow)"


def test_a_run_begins_with_one_try_whatever_an_earlier_one_left_in_the_rows(
    tmp_path: Path, empty_table: Path, simulate: Simulate, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulator = simulate()
    for name, value in simulator.environment.items():
        monkeypatch.setenv(name, value)
    shutil.copyfile(empty_table, tmp_path / "batchgen.db")
    with Database(tmp_path / "batchgen.db") as database:
        now = datetime.now(UTC)
        for kind in (LimitKind.SUBMITS, LimitKind.POLLS):
            key = LimitKey("aimlapi", kind)
            database.write_now(rate.pause, key, "429: a bad night", now, timedelta(days=9))
            database.write_now(partial(rate.write, key=key, next_free_at=now + timedelta(days=9)))
    assert batchgen.run(write_manifest(tmp_path / "m.yaml", 2)).ok
