"""How long generations took, per model and clip length: count, mean and sum of squares, so that learning is one row."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, insert, select, update

from batchgen.jobtable.prepared import Prepared
from batchgen.jobtable.schema import timings

MEMORY = 500
"""Generations after which older ones begin to be forgotten: services change."""


@dataclass(frozen=True, slots=True)
class Timing:
    """What is known of a time: of the logarithm of seconds, the mean and the sum of squared distances from it."""

    count: int
    mean: float
    squares: float

    def with_one(self, seconds: float) -> Timing:
        """The same with one more generation (Welford)."""
        logarithm = math.log(seconds)
        away = logarithm - self.mean
        if self.count < MEMORY:
            mean = self.mean + away / (self.count + 1)
            return Timing(self.count + 1, mean, self.squares + away * (logarithm - mean))
        mean = self.mean + away / MEMORY
        kept = self.squares * (1 - 1 / MEMORY)
        return Timing(MEMORY, mean, kept + away * (logarithm - mean))


def known(connection: Connection, service: str) -> dict[tuple[str, str], Timing]:
    """What the table knows of a service, by model and clip length."""
    rows = connection.execute(select(timings).where(timings.c.service == service))
    return {(row.model, row.duration): Timing(row.generations, row.mean, row.squares) for row in rows}


def learn(connection: Connection, service: str, model: str, duration: str, seconds: float) -> Timing:
    """Add one generation that took about `seconds`. Returns what is known now."""
    of = {"of": service, "named": model, "long": duration}
    row = ONE.row(connection, of)
    now = (Timing(*row) if row else Timing(0, 0.0, 0.0)).with_one(seconds)
    values = {"generations": now.count, "mean": now.mean, "squares": now.squares}
    if row:
        RENEW.run(connection, {**of, **{f"to_{name}": value for name, value in values.items()}})
    else:
        connection.execute(insert(timings).values(service=service, model=model, duration=duration, **values))
    return now


_which = (
    (timings.c.service == bindparam("of"))
    & (timings.c.model == bindparam("named"))
    & (timings.c.duration == bindparam("long"))
)
ONE = Prepared(select(timings.c.generations, timings.c.mean, timings.c.squares).where(_which).with_for_update())
RENEW = Prepared(
    update(timings).where(_which).values({name: bindparam(f"to_{name}") for name in ("generations", "mean", "squares")})
)
