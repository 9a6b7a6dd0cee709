"""What may be sent now, kept in rows: a restart cannot burst, and several runs share one allowance.

The rate is a generic cell rate algorithm: `next_free_at` runs ahead of the clock by one interval a request, and a
request may pass while it is not more than the burst ahead.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, bindparam, insert, select, update

from batchgen.pacing import backoff
from batchgen.schema import limits

BURST_MINUTES = 0.05  # of the rate: 60 a minute may begin with 3 at once; at least one
THROTTLE_FIRST_SECONDS = 2.0
THROTTLE_LONGEST_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Allowance:
    """How many requests may pass now, and when the next one may if that is not enough."""

    number: int
    next_at: datetime | None


def row_of(connection: Connection, name: str) -> dict[str, object]:
    """A limit's row, made if this is the first time."""
    found = connection.execute(ROW, {"of": name}).one_or_none()
    if found is None:
        connection.execute(insert(limits).values(name=name, strikes=0))
        found = connection.execute(ROW, {"of": name}).one()
    return dict(found._mapping)


def allowed(connection: Connection, name: str, per_minute: float, wanted: int, now: datetime) -> Allowance:
    """What the rate and the pauses let through now, of `wanted` requests. Nothing is spent yet."""
    row = row_of(connection, name)
    paused_until = row["paused_until"]
    if isinstance(paused_until, datetime) and paused_until > now:
        return Allowance(0, paused_until)
    interval = timedelta(minutes=1 / per_minute)
    burst = max(1, int(per_minute * BURST_MINUTES))
    next_free = row["next_free_at"]
    ahead = max(next_free - now, timedelta(0)) if isinstance(next_free, datetime) else timedelta(0)
    free = int((interval * burst - ahead) / interval + 1e-9)
    number = max(0, min(free, wanted))
    return Allowance(number, now + ahead + interval * (number + 1 - burst))


def spend(connection: Connection, name: str, per_minute: float, number: int, now: datetime) -> None:
    """Take `number` requests from the rate."""
    if not number:
        return
    next_free = connection.execute(NEXT_FREE, {"of": name}).scalar()
    start = max(next_free, now) if next_free else now
    connection.execute(SPEND, {"of": name, "ahead": start + timedelta(minutes=number / per_minute)})


def pause(connection: Connection, name: str, reason: str, now: datetime, asked: timedelta | None = None) -> datetime:
    """Slow everybody down: until what the service asked for, else for a time that doubles with each refusal in a row.

    Refusals that come during a pause were sent before it and belong to it. Returns when the pause ends.
    """
    row = row_of(connection, name)
    until = row["paused_until"]
    known = isinstance(until, datetime) and until > now
    strikes = int(str(row["strikes"])) + (0 if known else 1)
    length = asked if asked is not None else backoff(strikes, THROTTLE_FIRST_SECONDS, THROTTLE_LONGEST_SECONDS)
    ends = now + max(length, timedelta(seconds=0.1))
    if isinstance(until, datetime) and known:
        ends = max(ends, until) if asked is not None else until
    connection.execute(
        update(limits).where(limits.c.name == name).values(paused_until=ends, reason=reason, strikes=strikes)
    )
    return ends


def relent(connection: Connection, name: str) -> None:
    """The service took a request: the next pause starts small again."""
    connection.execute(RELENT, {"of": name})


_named = limits.c.name == bindparam("of")
ROW = select(limits).where(_named).with_for_update()
NEXT_FREE = select(limits.c.next_free_at).where(_named)
SPEND = update(limits).where(_named).values(next_free_at=bindparam("ahead", type_=limits.c.next_free_at.type))
RELENT = update(limits).where(_named, limits.c.strikes > 0).values(strikes=0)
