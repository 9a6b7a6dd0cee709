"""The simulated account: its key, what it may send in a minute, and what it can pay for."""

from __future__ import annotations

import hmac
import math
from collections import deque
from datetime import datetime, timedelta

from batchgen.simulator.clock import SimulatedClock
from batchgen.simulator.ledger import Ledger
from batchgen.simulator.prices import CREDITS_PER_USD
from batchgen.simulator.simulation import AccountLimits


class Window:
    """At most `most` calls in any minute of the service."""

    def __init__(self, most: int | None, clock: SimulatedClock) -> None:
        self._most = most
        self._clock = clock
        self._minute = clock.lasts(60)
        self._calls: deque[datetime] = deque()

    def pass_or_wait(self) -> timedelta | None:
        """Count this call; or, where the minute is full, say how long until there is room."""
        if self._most is None:
            return None
        now = self._clock.now()
        while self._calls and self._calls[0] <= now - self._minute:
            self._calls.popleft()
        if len(self._calls) >= self._most:
            return self._calls[0] + self._minute - now if self._calls else self._minute
        self._calls.append(now)
        return None


class Account:
    """The account that every right key belongs to."""

    def __init__(self, limits: AccountLimits, key: str | None, clock: SimulatedClock, ledger: Ledger) -> None:
        self.limits = limits
        self._key = key
        self._clock = clock
        self._ledger = ledger
        self.requests = Window(limits.requests_per_minute, clock)
        self.creates = Window(limits.creates_per_minute, clock)
        self.log_requests = Window(limits.log_requests_per_minute, clock)

    def knows(self, authorization: str | None) -> bool:
        """Whether an Authorization header carries a right key."""
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            return False
        return self._key is None or hmac.compare_digest(key.strip().encode(), self._key.encode())

    def too_many(self) -> bool:
        """Whether no further generation may be at work."""
        most = self.limits.in_flight
        return most is not None and self._ledger.in_flight(self._clock.now()) >= most

    def can_pay(self, credits_asked: int) -> bool:
        """Whether the balance covers `credits_asked` beside everything already promised."""
        return self._ledger.promised_credits() + credits_asked <= self.limits.balance_usd * CREDITS_PER_USD


def retry_after(wait: timedelta, speed: float = 1.0) -> str:
    """A wait as Retry-After says it, never too short: whole seconds of the service, which at `speed` are that much
    shorter outside."""
    whole = max(1, math.ceil(wait.total_seconds() * speed - 1e-6))
    return str(whole) if speed == 1 else f"{whole / speed:.6f}"
