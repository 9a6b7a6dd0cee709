"""Admission control: how many requests may be submitted now, within limits that are named and limits that are learned.

A learned limit belongs to one account (a label of its key) and one model, and lies in rows that all runs share. Named
limits and pauses hold for the whole service.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import Connection

from batchgen.jobtable import in_flight
from batchgen.jobtable.in_flight import InFlight
from batchgen.jobtable.kinds import LimitKind
from batchgen.jobtable.submission import Candidate
from batchgen.limits import adaptive, rate
from batchgen.limits.adaptive import MINUTE, LearnedLimits
from batchgen.limits.rate import LimitKey
from batchgen.manifest.limits import AUTO, Limits
from batchgen.services.base import Queueing, Service
from batchgen.services.outcomes import PAUSE_MAX, Limit, Throttled

MOST_IN_FLIGHT = 1_000  # the highest number that a manifest may name
MOST_PER_MINUTE = 60_000.0  # the highest rate that a manifest may name


@dataclass(frozen=True, slots=True)
class Admitted:
    """When a request was admitted, and whether the rate was all that kept more of its model from being sent."""

    at: datetime
    rate_limited: bool = False


@dataclass(frozen=True, slots=True)
class Capacity:
    """How many requests may be submitted now, and when more may be."""

    number: int
    next_at: datetime | None = None
    pause_reason: str = ""
    by_model: dict[str, int] = field(default_factory=dict)
    """At most so many of each model; empty where no limit is learned."""
    rate_limited: frozenset[str] = frozenset()
    """Models of which only the rate keeps more from being submitted."""

    @property
    def full_models(self) -> list[str]:
        """Models of which none may be submitted now."""
        return [model for model, number in self.by_model.items() if not number]

    def fitting(self, chosen: Sequence[Candidate]) -> Iterator[Candidate]:
        """Those of `chosen` that fit into the capacity of their models."""
        counts: Counter[str] = Counter()
        for candidate in chosen:
            counts[candidate.model] += 1
            if not self.by_model or counts[candidate.model] <= self.by_model.get(candidate.model, 0):
                yield candidate


class Admission:
    """Holds the submits of a run to the limits of one service and account."""

    def __init__(self, service: Service, limits: Limits) -> None:
        self.service_name, self.account = service.name, service.account
        self.features = service.features
        self.service_key = LimitKey(self.service_name, LimitKind.SUBMITS)
        self.backing_off = False
        """Whether nothing had been accepted since a refusal, at the last claim."""
        self.refusals = 0
        """Since this run had a request accepted."""
        self.follow(limits)

    def follow(self, limits: Limits) -> None:
        """Keep to these limits from now on. What was learned stays in its rows, whatever is named meanwhile."""
        self.limits = limits
        self.learns_rate = limits.submits_per_minute == AUTO
        # A service that queues whatever is sent refuses nothing from which a limit could be learned.
        self.queues = limits.in_flight == AUTO and self.features.queueing is Queueing.ACCEPTS
        self.learns_in_flight = limits.in_flight == AUTO and not self.queues
        self.learns = self.learns_rate or self.learns_in_flight
        self.per_minute = MOST_PER_MINUTE if limits.submits_per_minute == AUTO else limits.submits_per_minute
        """The named rate, of all models together."""

    def key(self, kind: LimitKind, model: str) -> LimitKey:
        return LimitKey(self.service_name, kind, self.account, model)

    def learned(self, connection: Connection, model: str) -> LearnedLimits:
        kinds = LimitKind.IN_FLIGHT, LimitKind.SUBMITS
        return LearnedLimits(*(rate.learned(connection, self.key(kind, model)) for kind in kinds))

    def store(self, connection: Connection, model: str, learned: LearnedLimits, now: datetime) -> None:
        if self.learns_in_flight:
            rate.store(connection, self.key(LimitKind.IN_FLIGHT, model), learned.in_flight, now)
        if self.learns_rate:
            rate.store(connection, self.key(LimitKind.SUBMITS, model), learned.rate, now)

    def capacity(self, connection: Connection, models: Sequence[str], now: datetime, most: int) -> Capacity:
        """How many requests may be submitted now, at most `most`."""
        counts = in_flight.in_flight_by_model(connection, self.service_name, now)
        in_flight_limit = MOST_IN_FLIGHT if self.queues else self.limits.in_flight
        if not isinstance(in_flight_limit, str):
            most = min(most, in_flight_limit - sum(count.total for count in counts.values()))
        if most <= 0:
            return Capacity(0)
        allowance = rate.allowance(connection, self.service_key, self.per_minute, most, now)
        number, self.backing_off = allowance.number, allowance.backing_off
        if number and self.backing_off:
            number = 1 - sum(count.on_wire for count in counts.values())
            if number <= 0:
                return Capacity(0)
        capacity = Capacity(number, allowance.next_at, allowance.pause_reason)
        return self.capacity_by_model(connection, models, now, capacity, counts) if number and self.learns else capacity

    def capacity_by_model(
        self,
        connection: Connection,
        models: Sequence[str],
        now: datetime,
        capacity: Capacity,
        counts: dict[str, InFlight],
    ) -> Capacity:
        """How much of `capacity` the learned limits allow each model."""
        by_model, rate_limited, times = {}, set(), [capacity.next_at]
        for model in models:
            learned, count = self.learned(connection, model), counts.get(model, InFlight())
            number = capacity.number
            if self.learns_in_flight:
                window = adaptive.allowed_in_flight(learned.in_flight, count.accepted)
                number = max(min(number, window - count.accepted - count.on_wire), 0)
            if self.learns_rate and learned.rate.window is not None and number:
                allowance = rate.allowance(connection, self.key(LimitKind.SUBMITS, model), self.per_minute, number, now)
                times.append(allowance.next_at)
                if allowance.number < number:
                    number = allowance.number
                    rate_limited.add(model)
            by_model[model] = number
        soonest = min((time for time in times if time and time > now), default=None)
        return Capacity(min(capacity.number, sum(by_model.values())), soonest, "", by_model, frozenset(rate_limited))

    def spend(self, connection: Connection, models: Sequence[str], now: datetime) -> None:
        """Take one request of each of `models` from the rates."""
        if not self.learns_rate:
            rate.spend(connection, self.service_key, self.per_minute, len(models), now)
            return
        for model in set(models):
            rate.spend(connection, self.key(LimitKind.SUBMITS, model), self.per_minute, models.count(model), now)

    def accepted(self, connection: Connection, model: str, admitted: Admitted, now: datetime) -> None:
        """Learn from a request that the service accepted. Its job counts as in flight by now."""
        self.refusals = 0
        if self.backing_off:
            rate.reset_backoff(connection, self.service_key)
        if self.learns:
            in_flight_limit, rate_limit = self.learned(connection, model)
            count = self.in_flight(connection, model, now)
            in_flight_limit = adaptive.accepted_in_flight(in_flight_limit, count.accepted, count.on_wire)
            rate_limit = adaptive.increase(rate_limit) if admitted.rate_limited else rate_limit
            self.store(connection, model, LearnedLimits(in_flight_limit, rate_limit), now)

    def refused(
        self, connection: Connection, model: str, admitted: Admitted, refusal: Throttled, now: datetime
    ) -> None:
        """Pause as the service asks, and learn from the refusal."""
        pause_row = rate.row_of(connection, self.service_key)
        learned = self.learned(connection, model) if self.learns else LearnedLimits()
        accepted = self.in_flight(connection, model, now).accepted
        # A request that was sent before the last pause ended was refused together with the one that began it.
        is_counted = pause_row.paused_until is None or admitted.at >= pause_row.paused_until
        # The row counts creates without a clear answer too; but it is reset when another run has a request accepted.
        in_a_row = min(self.refusals, pause_row.failures) + is_counted
        self.refusals += is_counted
        limit = adaptive.limit_of(learned.in_flight, refusal, accepted, in_a_row)
        wait = refusal.retry_after
        if limit is Limit.QUOTA:
            wait = wait or PAUSE_MAX
        is_doubtful = wait is not None and wait >= PAUSE_MAX
        ends = self.pause(connection, refusal, limit, wait, now)
        if not self.learns or not is_counted or limit is Limit.QUOTA or is_doubtful:
            return
        if limit is Limit.IN_FLIGHT:
            learned = learned._replace(in_flight=adaptive.decrease(learned.in_flight, accepted, in_a_row))
        elif in_a_row == 1:  # one that follows in the backoff says only that the backoff was too short
            since = max(now - MINUTE, pause_row.paused_until or now - MINUTE)
            times = in_flight.accepted_times(connection, self.service_name, model, since, now)
            # Where the service names no wait, its rate is taken to be for a minute, as most are.
            until = ends if wait or not times else max(ends, times[0] + MINUTE)
            measured = adaptive.measured_rate(learned.rate, times, until)
            learned = learned._replace(rate=adaptive.decrease(learned.rate, measured))
        self.store(connection, model, learned, now)

    def pause(
        self, connection: Connection, refusal: Throttled, limit: Limit, wait: timedelta | None, now: datetime
    ) -> datetime:
        """Send nothing for as long as the service asks, and poll less where the limit is one of the rate.

        Returns when the pause ends.
        """
        sentence = "the account's quota is used up" if limit is Limit.QUOTA else "the service asks to slow down"
        reason = f"{sentence} ({refusal.reason})"
        ends = rate.pause(connection, self.service_key, reason, now, wait)
        is_short = wait is None or wait < PAUSE_MAX
        if limit is Limit.RATE and (self.learns or refusal.limit) and is_short:
            # Polls may share the account's requests, and lose less by waiting. They do not wait for long.
            polls = LimitKey(self.service_name, LimitKind.POLLS)
            rate.pause_until(connection, polls, min(ends, now + MINUTE), reason)
        return ends

    def in_flight(self, connection: Connection, model: str, now: datetime) -> InFlight:
        return in_flight.in_flight_by_model(connection, self.service_name, now).get(model, InFlight())
