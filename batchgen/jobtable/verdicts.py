"""What people say of delivered clips: picked, rejected, one to five stars. Append-only; the newest row counts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, bindparam, insert, select

from batchgen.jobs import Verdict
from batchgen.jobtable.schema import outputs, verdicts

STARS_MAX = 5


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a person says of a clip. Nothing of either takes an earlier verdict back."""

    verdict: Verdict | None = None
    stars: int | None = None
    """1 to 5."""


def judge(connection: Connection, attempt_id: int, judgement: Judgement, now: datetime) -> bool:
    """Record a verdict on the clip of an attempt. False where the attempt has no delivered clip."""
    if connection.execute(DELIVERED, {"of_attempt": attempt_id}).first() is None:
        return False
    if current(connection, attempt_id) != judgement:
        values = {"attempt_id": attempt_id, "at": now, "verdict": judgement.verdict, "stars": judgement.stars}
        connection.execute(insert(verdicts).values(values))
    return True


def current(connection: Connection, attempt_id: int) -> Judgement:
    """The verdict that counts."""
    row = connection.execute(NEWEST, {"of_attempt": attempt_id}).first()
    return Judgement(Verdict(row.verdict) if row.verdict else None, row.stars) if row else Judgement()


DELIVERED = (
    select(outputs.c.id)
    .where(outputs.c.attempt_id == bindparam("of_attempt"), outputs.c.delivered_at.is_not(None))
    .limit(1)
)
NEWEST = (
    select(verdicts.c.verdict, verdicts.c.stars)
    .where(verdicts.c.attempt_id == bindparam("of_attempt"))
    .order_by(verdicts.c.id.desc())
    .limit(1)
)
