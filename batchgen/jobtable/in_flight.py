"""What is in flight: generations and creates, together and by model, and the creates of the last minutes. Read-only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, bindparam, func, select, text

from batchgen.jobs import Outcome
from batchgen.jobtable.joins import ATTEMPT_IS_IN_FLIGHT
from batchgen.jobtable.schema import attempts

RECENT_ATTEMPTS = 5_000
"""The newest attempts among which the creates of a minute are looked for: more than any account allows in one."""


@dataclass(slots=True)
class InFlight:
    """The generations that count as in flight, and the creates that are on the wire."""

    accepted: int = 0
    on_wire: int = 0

    @property
    def total(self) -> int:
        return self.accepted + self.on_wire


def in_flight_by_model(connection: Connection, service: str, now: datetime) -> dict[str, InFlight]:
    """What the service may be working on. Generations past their deadline do not count: they may never end."""
    counts: dict[str, InFlight] = {}
    for model, outcome, number in connection.execute(IN_FLIGHT_BY_MODEL, {"of_service": service, "now": now}):
        count = counts.setdefault(model, InFlight())
        if outcome == Outcome.SENDING:
            count.on_wire = number
        else:
            count.accepted += number
    return counts


def accepted_times(
    connection: Connection, service: str, model: str, since: datetime, until: datetime
) -> list[datetime]:
    """When the creates of a model were sent that the service accepted, oldest first."""
    times = select(attempts.c.intent_at).where(
        attempts.c.id > select(func.max(attempts.c.id) - RECENT_ATTEMPTS).scalar_subquery(),
        attempts.c.outcome == Outcome.ACCEPTED,
        attempts.c.intent_at.between(since, until),
        attempts.c.service == service,
        attempts.c.model == model,
    )
    return sorted(connection.execute(times).scalars())


IN_FLIGHT_BY_MODEL = (
    select(attempts.c.model, attempts.c.outcome, func.count())
    .where(
        attempts.c.service == bindparam("of_service"),
        text(ATTEMPT_IS_IN_FLIGHT),  # the condition of the partial index ix_attempts_in_flight
        (attempts.c.outcome == Outcome.SENDING)
        | (attempts.c.deadline_at > bindparam("now", type_=attempts.c.deadline_at.type)),
    )
    .group_by(attempts.c.model, attempts.c.outcome)
)
