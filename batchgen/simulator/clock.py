"""Compressed time: the service's seconds pass `speed` times faster than ours, and its dates are ours."""

from __future__ import annotations

from datetime import datetime, timedelta

from batchgen.clock import utcnow


class SimulatedClock:
    """Dates are real, so that a client's windows and signatures agree with them; only lengths are compressed."""

    def __init__(self, speed: float) -> None:
        self.speed = speed

    def now(self) -> datetime:
        """Now, aware UTC."""
        return utcnow()

    def lasts(self, seconds: float) -> timedelta:
        """How long `seconds` of the service take outside."""
        return timedelta(seconds=seconds / self.speed)
