"""How long generations took, per model and clip length: count, mean and sum of squares, so that learning is one row."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sqlalchemy import Connection, insert, select, update

from batchgen.schema import timings

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
    which = (timings.c.service == service, timings.c.model == model, timings.c.duration == duration)
    row = connection.execute(select(timings).where(*which).with_for_update()).one_or_none()
    before = Timing(row.generations, row.mean, row.squares) if row else Timing(0, 0.0, 0.0)
    now = before.with_one(seconds)
    values = {"generations": now.count, "mean": now.mean, "squares": now.squares}
    if row:
        connection.execute(update(timings).where(*which).values(**values))
    else:
        connection.execute(insert(timings).values(service=service, model=model, duration=duration, **values))
    return now
