"""How long generations take, per model and clip length: a log-normal distribution, kept as count, mean and M2.

A new time updates one row, by Welford's method ("Note on a method for calculating corrected sums of squares and
products", Technometrics 4, 1962): `log_m2` is the sum of squared distances from `log_mean`, over logarithms of seconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, bindparam, insert, select

from batchgen.jobs import TimingKind
from batchgen.jobtable.schema import timings
from batchgen.jobtable.transition import guarded_update

GENERATIONS_MAX = 500
"""Generations after which each new one displaces an average older one, because services change."""
LOG_MAX = math.log(7 * 24 * 3_600)
"""No generation takes longer than a week: a row beyond that was edited by hand, or learned by a clock that was set."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Count, mean and M2 of the logarithms of generation times in seconds."""

    count: int = 0
    log_mean: float = 0.0
    log_m2: float = 0.0

    @classmethod
    def of(cls, row: Row[Any, Any, Any]) -> Timing:
        """What a row says; nothing, where no generations can have taught it."""
        match row.generations, row.log_mean, row.log_m2:
            case int(count), float(mean), float(m2) if (
                0 < count <= GENERATIONS_MAX and abs(mean) <= LOG_MAX and 0 <= m2 <= count * LOG_MAX**2
            ):
                return cls(count, mean, m2)
        return cls()

    def with_one(self, seconds: float) -> Timing:
        """The distribution with one more generation."""
        logarithm = math.log(seconds)
        delta = logarithm - self.log_mean
        weight = min(self.count + 1, GENERATIONS_MAX)
        mean = self.log_mean + delta / weight
        log_m2 = self.log_m2 if self.count < GENERATIONS_MAX else self.log_m2 * (1 - 1 / GENERATIONS_MAX)
        return Timing(weight, mean, log_m2 + delta * (logarithm - mean))


def load(connection: Connection, service: str) -> dict[TimingKind, Timing]:
    rows = connection.execute(select(timings).where(timings.c.service == service))
    return {(row.model, row.clip_seconds): Timing.of(row) for row in rows}


def learn(connection: Connection, service: str, kind: TimingKind, seconds: float) -> Timing:
    """Add one generation that took about `seconds`. Returns the new distribution."""
    model, clip_seconds = kind
    key = {"service": service, "model": model, "clip_seconds": clip_seconds}
    row = connection.execute(SELECT_TIMING, {f"of_{name}": value for name, value in key.items()}).one_or_none()
    timing = (Timing.of(row) if row else Timing()).with_one(seconds)
    values = {"generations": timing.count, "log_mean": timing.log_mean, "log_m2": timing.log_m2}
    is_updated = row is not None and guarded_update(connection, timings, key, values)
    if not is_updated:
        connection.execute(insert(timings).values(**key, **values))
    return timing


SELECT_TIMING = (
    select(timings.c.generations, timings.c.log_mean, timings.c.log_m2)
    .where(*(timings.c[name] == bindparam(f"of_{name}") for name in ("service", "model", "clip_seconds")))
    .with_for_update()
)
