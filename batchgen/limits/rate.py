"""What may be sent now, kept in rows: a restart cannot burst, and several runs share one allowance.

The rate is a generic cell rate algorithm: `next_free_at` runs ahead of the clock by one interval a request, and a
request may pass while it is not more than `EARLY` ahead: nobody wakes to the millisecond, and what one request is late
the next may make up for, but no more than was agreed passes in a minute.

A row also keeps what was found of the account (see `discovery.py`), where nobody told.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta

from sqlalchemy import Connection, bindparam, insert, select, update

from batchgen.jobtable.schema import limits
from batchgen.jobtable.transition import guarded_update
from batchgen.limits.adaptive import Found
from batchgen.limits.generation_times import backoff

EARLY = timedelta(seconds=0.05)
THROTTLE_FIRST_SECONDS = 2.0
THROTTLE_LONGEST_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Allowance:
    """How many requests may pass now, and when the next one may if that is not enough."""

    number: int
    next_at: datetime | None
    paused_for: str = ""
    """Why nothing passes until `next_at`."""
    refused: bool = False
    """The last request was: until one is taken, they go one at a time."""
    slowed: bool = False
    """A rate was found."""


def submits_to(service: str) -> str:
    """The row of all submits to a service: the rate that was told, and the pauses."""
    return f"submits to {service}"


def submits_of(service: str, account: str, model: str) -> str:
    """The row of what was found of an account's limits for a model."""
    return f"submits to {service} by {account}: {model}"


def model_of(row: str, service: str) -> str | None:
    """The model that a row tells of; None for a row of something else."""
    head, _, model = row.partition(": ")
    return model if model and head.startswith(f"{submits_to(service)} by ") else None


def polls_of(service: str) -> str:
    return f"polls of {service}"


def row_of(connection: Connection, name: str) -> dict[str, object]:
    """A limit's row, made if this is the first time."""
    row = connection.execute(ROW, {"wanted": name}).one_or_none()
    if row is None:
        connection.execute(MAKE, {"name": name, "failures": 0})
        row = connection.execute(ROW, {"wanted": name}).one()
    return dict(row._mapping)


def interval_of(row: dict[str, object], per_minute: float) -> timedelta:
    """The time between two requests at a rate; at the rate that was found, if that is less."""
    found = row["per_minute"]
    return timedelta(minutes=1 / (min(per_minute, found) if isinstance(found, float) else per_minute))


def allowed(connection: Connection, name: str, per_minute: float, wanted: int, now: datetime) -> Allowance:
    """What the rate and the pauses let through now, of `wanted` requests. Nothing is spent yet."""
    row = row_of(connection, name)
    paused_until, refused = row["paused_until"], bool(row["failures"])
    if isinstance(paused_until, datetime) and paused_until > now:
        return Allowance(0, paused_until, str(row["reason"]), refused)
    interval = interval_of(row, per_minute)
    reach = interval + EARLY
    next_free = row["next_free_at"]
    ahead = max(next_free - now, timedelta(0)) if isinstance(next_free, datetime) else timedelta(0)
    free = int((reach - ahead) / interval + 1e-9)
    number = max(0, min(free, wanted))
    slowed = row["per_minute"] is not None
    return Allowance(number, now + ahead + interval * (number + 1) - reach, refused=refused, slowed=slowed)


def spend(connection: Connection, name: str, per_minute: float, number: int, now: datetime) -> None:
    """Take `number` requests from the rate."""
    if not number:
        return
    row = row_of(connection, name)
    next_free = row["next_free_at"]
    start = max(next_free, now) if isinstance(next_free, datetime) else now
    ahead = start + interval_of(row, per_minute) * number
    guarded_update(connection, limits, {"name": name}, {"next_free_at": ahead})


def pause(connection: Connection, name: str, reason: str, now: datetime, asked: timedelta | None = None) -> datetime:
    """Slow everybody down: until what the service asked for, else for a time that doubles with each refusal in a row.

    Refusals that come during a pause were sent before it and belong to it. Returns when the pause ends.
    """
    row = row_of(connection, name)
    until = row["paused_until"]
    known = isinstance(until, datetime) and until > now
    failures = int(str(row["failures"])) + (0 if known else 1)
    length = asked if asked is not None else backoff(failures, THROTTLE_FIRST_SECONDS, THROTTLE_LONGEST_SECONDS)
    ends = now + max(length, timedelta(seconds=0.1))
    if isinstance(until, datetime) and known:
        ends = max(ends, until) if asked is not None else until
    guarded_update(connection, limits, {"name": name}, {"paused_until": ends, "reason": reason, "failures": failures})
    return ends


def relent(connection: Connection, name: str) -> None:
    """The service took a request: the next pause starts small again."""
    connection.execute(RELENT, {"wanted": name})


def hold(connection: Connection, name: str, until: datetime, reason: str) -> None:
    """Let nothing pass before `until`; nobody was refused for it."""
    paused_until = row_of(connection, name)["paused_until"]
    if not isinstance(paused_until, datetime) or paused_until < until:
        guarded_update(connection, limits, {"name": name}, {"paused_until": until, "reason": reason})


def found(connection: Connection, name: str) -> Found:
    """What was found of an account so far."""
    row = row_of(connection, name)
    return Found(**{field: value for field in FOUND if (value := row[field]) is not None})  # type: ignore[arg-type]


def known(connection: Connection, service: str, since: datetime) -> dict[str, Found]:
    """What was found, by model, of the account that was used last, if that was after `since`."""
    rows = connection.execute(select(limits).where(limits.c.used_at > since).order_by(limits.c.used_at))
    return {model: found(connection, row.name) for row in rows if (model := model_of(row.name, service))}


def keep(connection: Connection, name: str, known: Found, now: datetime) -> None:
    """Write down what is known now."""
    guarded_update(connection, limits, {"name": name}, {**asdict(known), "used_at": now})


ROW = select(limits).where(limits.c.name == bindparam("wanted")).with_for_update()
MAKE = insert(limits)
RELENT = update(limits).where(limits.c.name == bindparam("wanted"), limits.c.failures > 0).values(failures=0)
FOUND = tuple(field.name for field in fields(Found))
