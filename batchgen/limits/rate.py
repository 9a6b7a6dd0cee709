"""How often requests may be sent, kept in rows: a restart cannot burst, and several runs share one allowance.

The rate is limited by GCRA, the generic cell rate algorithm (ITU-T I.371; a leaky bucket without a timer). The column
`next_free_at` is its theoretical arrival time, which runs ahead of the clock by one interval a request.

A row belongs to a service, or to one account and model of it, and also keeps what AIMD has learned (`adaptive.py`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, and_, bindparam, insert, select, update

from batchgen.jobtable.kinds import LimitKind
from batchgen.jobtable.schema import limits
from batchgen.limits.adaptive import LEAST, MINUTE, SMALL_WINDOW, LearnedLimit, LearnedLimits, for_new_run
from batchgen.services.outcomes import PAUSE_MAX

TOLERANCE = timedelta(seconds=0.05)
"""GCRA's tolerance. No process wakes to the millisecond, so a request may leave this much early; the next one then
waits this much longer."""
PAUSE_FIRST_SECONDS = 2.0
PAUSE_LONGEST_SECONDS = 120.0
SHORTEST_PAUSE = timedelta(seconds=0.1)  # a Retry-After of 0 would have the request sent again in a tight loop
PROBE_FIRST, PROBE_LONGEST = PAUSE_MAX.total_seconds(), 900.0
"""Seconds. During a longer pause one request is sent after PROBE_FIRST to see whether the service means it; the time
doubles with each refusal in a row, up to PROBE_LONGEST."""
WINDOW_MAX = 1_000_000.0  # no service takes more requests a minute, or at once: what is learned lies far below
FIRST_TRY_INTERVAL = timedelta(seconds=10)
"""A run that begins during a pause may send one request. Two such requests are at least so far apart: a run that is
restarted in a loop must send no burst."""


def backoff(failures: int, first_seconds: float, longest_seconds: float) -> timedelta:
    """Exponential backoff: a pause that doubles with each failure in a row. `failures` counts this one too."""
    return timedelta(seconds=min(first_seconds * 2 ** min(failures - 1, 30), longest_seconds))


class LimitKey(NamedTuple):
    """The key of a row: a service as a whole, or one account and model of it."""

    service: str
    kind: LimitKind
    account: str = ""
    model: str = ""


@dataclass(frozen=True, slots=True)
class Allowance:
    """How many requests may be sent now, and when the next one may if that is not enough."""

    number: int
    next_at: datetime | None
    pause_reason: str = ""
    """Why nothing is sent until `next_at`."""
    backing_off: bool = False
    """The last request was refused: until one is accepted, they are sent one at a time."""
    learned: bool = False
    """The rate is a learned one."""


def row_of(connection: Connection, key: LimitKey) -> Row[Any]:
    """The row of a limit, locked; inserted the first time."""
    row = connection.execute(SELECT, params_of(key)).first()
    if row is None:
        connection.execute(INSERT, {**key._asdict(), "failures": 0})
        row = connection.execute(SELECT, params_of(key)).one()
    return row


def interval_of(row: Row[Any], per_minute: float) -> timedelta:
    """The time between two requests at a rate, or at the learned rate if that is lower."""
    return timedelta(minutes=1 / (per_minute if row.window is None else min(per_minute, max(row.window, LEAST))))


def allowance(connection: Connection, key: LimitKey, per_minute: float, most: int, now: datetime) -> Allowance:
    """How many requests the rate and the pauses allow now, at most `most`. Nothing is spent yet."""
    row = row_of(connection, key)
    backing_off = bool(row.failures)
    interval = interval_of(row, per_minute)
    limit = interval + TOLERANCE
    # A time further ahead was written by a clock that has been set back, or at a much lower rate.
    row = without_far_times(connection, key, row, now, max(limit, MINUTE))
    if row.paused_until and row.paused_until > now:
        return Allowance(0, row.paused_until, str(row.reason), backing_off)
    ahead = min(max(row.next_free_at - now, timedelta(0)), limit) if row.next_free_at else timedelta(0)
    number = max(0, min(int((limit - ahead) / interval + 1e-9), most))
    next_at = now + ahead + interval * (number + 1) - limit
    return Allowance(number, next_at, backing_off=backing_off, learned=row.window is not None)


def without_far_times(
    connection: Connection, key: LimitKey, row: Row[Any], now: datetime, longest: timedelta
) -> Row[Any]:
    """The row without times that no run could write now: they are too far ahead, so the clock was set back since."""
    values: dict[str, datetime] = {}
    if row.paused_until and row.paused_until > now + timedelta(seconds=PROBE_LONGEST):
        values["paused_until"] = now
    if row.next_free_at and row.next_free_at > now + longest:
        values["next_free_at"] = now
    if not values:
        return row
    write(connection, key, **values)
    return row_of(connection, key)


def spend(connection: Connection, key: LimitKey, per_minute: float, number: int, now: datetime) -> None:
    """Take `number` requests from the rate."""
    if not number:
        return
    row = row_of(connection, key)
    start = max(row.next_free_at, now) if row.next_free_at else now
    write(connection, key, next_free_at=start + interval_of(row, per_minute) * number)


def shorten_wait(connection: Connection, key: LimitKey, per_minute: float, now: datetime) -> None:
    """A person has set another rate: the next request waits for one interval of it at most, not of the rate before."""
    row = row_of(connection, key)
    latest = now + interval_of(row, per_minute)
    if row.next_free_at and row.next_free_at > latest:
        write(connection, key, next_free_at=latest)


def pause(
    connection: Connection, key: LimitKey, reason: str, now: datetime, retry_after: timedelta | None = None
) -> datetime:
    """Send nothing for as long as the service asks, else for a backoff that doubles with each refusal in a row.

    A pause of `PAUSE_MAX` or more ends after a probe's interval. A short one is at least as long as the backoff of the
    refusals before. A refusal during a pause is not counted: its request was sent before. Returns when the pause ends.
    """
    row = row_of(connection, key)
    paused = row.paused_until is not None and row.paused_until > now
    failures = row.failures + (not paused)
    if retry_after is None:
        length = backoff(failures, PAUSE_FIRST_SECONDS, PAUSE_LONGEST_SECONDS)
    elif retry_after >= PAUSE_MAX:
        length = backoff(failures, PROBE_FIRST, PROBE_LONGEST)
    else:
        earlier = backoff(failures - 1, PAUSE_FIRST_SECONDS, PAUSE_LONGEST_SECONDS) if failures > 1 else SHORTEST_PAUSE
        length = max(retry_after, earlier)
    ends: datetime = now + max(length, SHORTEST_PAUSE)
    if paused:
        ends = row.paused_until if retry_after is None else max(ends, row.paused_until)
    write(connection, key, paused_until=ends, reason=reason, failures=failures)
    return ends


def pause_until(connection: Connection, key: LimitKey, until: datetime, reason: str) -> None:
    """Send nothing before `until`, although none of these requests was refused."""
    paused_until = row_of(connection, key).paused_until
    if paused_until is None or paused_until < until:
        write(connection, key, paused_until=until, reason=reason)


def reset_for_run(connection: Connection, service: str, now: datetime) -> None:
    """Let a run that begins send one request during a pause; then it obeys the answer.

    It learns anew the rate of polls, a very small number in flight, and how seldom a higher limit is tried.
    """
    for row in connection.execute(OF_SERVICE, {"key_service": service}).all():
        key = LimitKey(row.service, row.kind, row.account, row.model)
        if row.paused_until and row.paused_until > now:
            # In the row of a whole service, `used_at` is when a run last sent such a request, or is about to.
            try_at = now
            if row.used_at and row.used_at <= now + FIRST_TRY_INTERVAL:
                try_at = row.used_at if row.used_at > now else max(now, row.used_at + FIRST_TRY_INTERVAL)
            write(connection, key, paused_until=min(try_at, row.paused_until), failures=1, used_at=try_at)
        if row.window is None:
            continue
        limit = for_new_run(to_learned(row), LEAST)
        if key.kind is LimitKind.POLLS:
            limit = LearnedLimit()
        elif key.kind is LimitKind.IN_FLIGHT and row.window < SMALL_WINDOW:
            limit = replace(limit, threshold=None)
        write(connection, key, **asdict(limit))


def reset_backoff(connection: Connection, key: LimitKey) -> None:
    """A request was accepted: the next pause is short again. A pause that lasts still ends when it would have."""
    write(connection, key, failures=0)


def learned(connection: Connection, key: LimitKey) -> LearnedLimit:
    """What AIMD has learned of a limit so far."""
    return to_learned(row_of(connection, key))


def store(connection: Connection, key: LimitKey, limit: LearnedLimit, now: datetime) -> None:
    """Write down what AIMD has learned of a limit."""
    write(connection, key, **asdict(limit), used_at=now)


def learned_by_model(connection: Connection, service: str, since: datetime) -> dict[str, LearnedLimits]:
    """What was learned of each model since then, with the account that was used last."""
    by_account: dict[tuple[str, str], dict[LimitKind, LearnedLimit]] = {}
    for row in connection.execute(LEARNED, {"key_service": service, "since": since}):
        by_account.setdefault((row.model, row.account), {})[row.kind] = to_learned(row)
    unknown = LearnedLimit()
    return {
        model: LearnedLimits(kinds.get(LimitKind.IN_FLIGHT, unknown), kinds.get(LimitKind.SUBMITS, unknown))
        for (model, _), kinds in by_account.items()
    }


def to_learned(row: Row[Any]) -> LearnedLimit:
    """What a row says; nothing learned, where somebody edited it into nonsense."""
    window, threshold, *counts = (getattr(row, name) for name in LEARNED_FIELDS)
    is_sound = all(type(count) is int for count in counts) and all(
        value is None or (type(value) is float and 0 <= value <= WINDOW_MAX) for value in (window, threshold)
    )
    return LearnedLimit(window, threshold, *counts) if is_sound else LearnedLimit()


def write(connection: Connection, key: LimitKey, **values: Any) -> None:
    connection.execute(UPDATE, params_of(key) | values)


def params_of(key: LimitKey) -> dict[str, Any]:
    return {f"key_{name}": value for name, value in key._asdict().items()}


LEARNED_FIELDS = tuple(field.name for field in fields(LearnedLimit))
_key = and_(*(limits.c[name] == bindparam(f"key_{name}") for name in LimitKey._fields))
SELECT = select(limits).where(_key).with_for_update()
OF_SERVICE = select(limits).where(limits.c.service == bindparam("key_service")).with_for_update()
INSERT = insert(limits)
UPDATE = update(limits).where(_key)
LEARNED = (
    select(limits)
    .where(
        limits.c.service == bindparam("key_service"),
        limits.c.account != "",
        limits.c.used_at > bindparam("since", type_=limits.c.used_at.type),
    )
    .order_by(limits.c.used_at)
)
