"""What is in flight: generations and creates by model, and the creates of the last minutes. Read-only."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection, bindparam, func, select

from batchgen.jobs import Outcome, State
from batchgen.jobtable.schema import attempts, jobs
from batchgen.jobtable.submission import FLYING_WHERE

RECENT_ATTEMPTS = 5_000
"""The newest attempts among which the creates of a minute are looked for: more than any account allows in one."""


@dataclass(frozen=True, slots=True)
class InFlight:
    """Of one model, the generations that count as in flight and the creates that are on the wire."""

    accepted: int = 0
    on_wire: int = 0


def in_flight_by_model(connection: Connection, service: str, now: datetime) -> dict[str, InFlight]:
    """What `submission.in_flight` counts, by model."""
    counts: dict[str, InFlight] = {}
    for model, on_wire, number in connection.execute(IN_FLIGHT_BY_MODEL, {"of": service, "now": now}):
        count = counts.get(model, InFlight())
        counts[model] = replace(count, **{"on_wire" if on_wire else "accepted": number})
    return counts


def accepted_times(
    connection: Connection, service: str, model: str, since: datetime, until: datetime
) -> list[datetime]:
    """When the creates of a model were sent that the service accepted, oldest first."""
    params = {"service_name": service, "model_name": model, "since": since, "until": until}
    return list(connection.execute(ACCEPTED_TIMES, params).scalars())


_on_wire = jobs.c.state == State.SUBMITTING
IN_FLIGHT_BY_MODEL = select(jobs.c.model, _on_wire, func.count()).where(*FLYING_WHERE).group_by(jobs.c.model, _on_wire)

ACCEPTED_TIMES = (
    select(attempts.c.sent_at)
    .join(jobs, attempts.c.job_id == jobs.c.id)
    .where(
        attempts.c.id > select(func.max(attempts.c.id) - RECENT_ATTEMPTS).scalar_subquery(),
        attempts.c.outcome == Outcome.ACCEPTED,
        attempts.c.sent_at >= bindparam("since", type_=attempts.c.sent_at.type),
        attempts.c.sent_at <= bindparam("until", type_=attempts.c.sent_at.type),
        jobs.c.service == bindparam("service_name"),
        jobs.c.model == bindparam("model_name"),
    )
    .order_by(attempts.c.sent_at)
)
