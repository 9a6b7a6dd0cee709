"""What may be submitted now: limits that a person told, and limits that are found, together.

Found limits are of one account (a label of its key) and one model, and lie in rows that all runs share; pauses and told
limits are of the service.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import Connection

from batchgen.jobtable import in_flight, submission
from batchgen.jobtable.in_flight import InFlight
from batchgen.limits import adaptive, rate
from batchgen.limits.adaptive import DOUBT, Found, Sent
from batchgen.manifest import AUTO, Limits
from batchgen.services.base import Limit, Throttled

QUOTA_PAUSE = timedelta(minutes=15)  # where the service does not say how long its quota lasts


@dataclass(frozen=True, slots=True)
class Flight:
    """What was in the air when a request was sent: it tells what a refusal is for."""

    sent_at: datetime
    flying: int = 0
    """Generations of its model."""
    held_back: bool = False
    """Only the rate kept more of its model from being sent."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """How many requests may be sent now, and when more may be."""

    number: int
    next_at: datetime | None = None
    paused_for: str = ""
    of_model: dict[str, int] = field(default_factory=dict)
    """At most so many of each; empty where nothing is found of models."""
    flights: dict[str, Flight] = field(default_factory=dict)

    @property
    def barred(self) -> list[str]:
        """Models of which none may be sent now."""
        return [model for model, number in self.of_model.items() if not number]


class Admission:
    """Holds submits to the limits of one service and account."""

    def __init__(self, service: str, account: str, told: Limits, models: Sequence[str]) -> None:
        self.service, self.account, self.told, self.models = service, account, told, models
        self.limit = rate.submits_to(service)
        self.finds_rate = told.submits_per_minute == AUTO
        self.finds_places = told.in_flight == AUTO
        self.refused_of_late = False
        """When a claim looked last, nothing had been taken since a refusal."""

    @property
    def finds(self) -> bool:
        return self.finds_rate or self.finds_places

    @property
    def per_minute(self) -> float:
        """For all models together."""
        per_minute = self.told.submits_per_minute
        return adaptive.MOST_PER_MINUTE if isinstance(per_minute, str) else per_minute

    def row(self, model: str) -> str:
        return rate.submits_of(self.service, self.account, model)

    def capacity(self, connection: Connection, now: datetime, wanted: int) -> Capacity:
        """What of `wanted` requests may be sent now."""
        flying: dict[str, InFlight] = {}
        if self.finds:
            flying = in_flight.in_flight_by_model(connection, self.service, now)
            number = sum(each.accepted + each.on_wire for each in flying.values())
        else:
            number = submission.in_flight(connection, self.service, now)
        if not isinstance(self.told.in_flight, str):
            wanted = min(wanted, self.told.in_flight - number)
        if wanted <= 0:
            return Capacity(0)
        allowance = rate.allowed(connection, self.limit, self.per_minute, wanted, now)
        number = allowance.number
        self.refused_of_late = allowance.refused
        if allowance.refused and number:
            flying = flying or in_flight.in_flight_by_model(connection, self.service, now)
            number = 1 - sum(each.on_wire for each in flying.values())
            if number <= 0:
                return Capacity(0)
        if not number or not self.finds:
            return Capacity(number, allowance.next_at, allowance.paused_for)
        return self.room_by_model(connection, now, number, allowance.next_at, flying)

    def room_by_model(
        self, connection: Connection, now: datetime, wanted: int, next_at: datetime | None, flying: dict[str, InFlight]
    ) -> Capacity:
        of_model, flights, times = {}, {}, [next_at]
        for model in self.models:
            known = rate.found(connection, self.row(model))
            here = flying.get(model, InFlight())
            number, held_back = wanted, False
            if self.finds_places:
                free = adaptive.places(known, here.accepted, now) - here.accepted - here.on_wire
                number = min(number, max(free, 0))
                if known.try_at and known.try_at > now:
                    times.append(known.try_at)
            if self.finds_rate and known.per_minute is not None and number:
                allowance = rate.allowed(connection, self.row(model), self.per_minute, number, now)
                held_back = allowance.number < number
                number = allowance.number
                times.append(allowance.next_at)
            of_model[model] = number
            flights[model] = Flight(now, here.accepted, held_back)
        soon = min((moment for moment in times if moment and moment > now), default=None)
        return Capacity(min(wanted, sum(of_model.values())), soon, "", of_model, flights)

    def spend(self, connection: Connection, models: Sequence[str], now: datetime) -> None:
        """Take one request of each of `models` from the rates."""
        if not self.finds_rate:
            rate.spend(connection, self.limit, self.per_minute, len(models), now)
            return
        for model in set(models):
            rate.spend(connection, self.row(model), self.per_minute, models.count(model), now)

    def accepted(self, connection: Connection, model: str, sent: Flight, now: datetime) -> None:
        """The service took a request. Its job is in flight by now."""
        if self.refused_of_late:
            rate.relent(connection, self.limit)
        if not self.finds:
            return
        known = rate.found(connection, self.row(model))
        flying = in_flight.in_flight_by_model(connection, self.service, now).get(model, InFlight()).accepted
        passed = Sent()
        if known.ceiling is not None and flying > known.ceiling and known.refused_at:
            passed = self.passed(connection, model, known, known.refused_at)
        rate.keep(connection, self.row(model), adaptive.accepted(known, flying, sent.held_back, passed, now), now)

    def refused(self, connection: Connection, model: str, sent: Flight, said: Throttled, now: datetime) -> None:
        """The service refused a request: slow down as it asks, and remember what that tells of its limits."""
        known = rate.found(connection, self.row(model)) if self.finds else Found()
        flying = sent.flying
        if self.finds:
            flying = max(
                flying, in_flight.in_flight_by_model(connection, self.service, now).get(model, InFlight()).accepted
            )
        which = adaptive.limit_of(known, said, flying, sent.held_back)
        if which is Limit.QUOTA:
            reason = f"the account's quota is used up ({said.reason})"
            rate.pause(connection, self.limit, reason, now, said.retry_after or QUOTA_PAUSE)
            return
        reason = f"the service asks to slow down ({said.reason})"
        counted = known.refused_at is None or sent.sent_at > known.refused_at
        if which is Limit.IN_FLIGHT and self.finds_places:
            again_at = now + said.retry_after if said.retry_after else None
            if counted:
                known = adaptive.refused_place(known, flying, now, again_at)
            if said.retry_after or known.refusals > 1:
                rate.pause(connection, self.limit, reason, now, said.retry_after)
        else:
            ends = rate.pause(connection, self.limit, reason, now, said.retry_after)
            if which is Limit.RATE and (self.finds or said.limit):
                # They may share the account's requests, and have less to lose.
                rate.hold(connection, rate.polls_of(self.service), min(ends, now + DOUBT), reason)
                if counted:
                    passed = self.passed(connection, model, known, now)
                    known = adaptive.refused_rate(known, passed, now, ends)
        if self.finds:
            rate.keep(connection, self.row(model), known, now)

    def passed(self, connection: Connection, model: str, known: Found, until: datetime) -> Sent:
        """What was accepted before a refusal, in the last minute or since the last pause."""
        since = max(until - DOUBT, known.resumed_at or until - DOUBT)
        times = in_flight.taken(connection, self.service, model, since, until)
        return adaptive.sent_in(times, known.per_minute)
