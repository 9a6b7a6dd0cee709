"""The settings of one simulated video service."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from batchgen.errors import UsageError


@dataclass(frozen=True, slots=True)
class AccountLimits:
    """What the simulated account may do. `None` is no limit. A minute passes `speed` times faster than outside."""

    requests_per_minute: int | None = None
    """Of every kind together."""
    creates_per_minute: int | None = None
    log_requests_per_minute: int = 200
    in_flight: int | None = None
    """Generations at work at once, over every process on the same ledger."""
    balance_usd: Decimal = Decimal(1_000_000)


@dataclass(frozen=True, slots=True)
class Simulation:
    """A simulated video service. Its times pass `speed` times faster than outside, but for those called real."""

    speed: float = 60.0
    """60: a generation of 210 s takes 3.5 s."""
    sigma: float | None = None
    """Of the logarithm of generation times; `None` spreads them as the documented ranges do."""
    seed: int = 0
    """Durations and faults follow from it and from the requests' bodies; ids are always new."""
    ledger: Path | None = None
    """An SQLite file that outlives the process and may be shared by several; `None` keeps it in memory."""
    key: str | None = None
    """The only key that is right; `None` takes any that is not empty."""
    latency_seconds: float = 0.0
    """Real: before every answer of the API."""
    faults: Mapping[str, Any] = field(default_factory=dict)
    """By place (`create`, `fetch`, `log`, `cdn`), then by name: see `faults.py`."""
    limits: AccountLimits = AccountLimits()
    instant: bool = False
    """Serve one tiny clip, made different for each generation, in place of rendering."""
    lag_seconds: float = 30.0
    """How long a request is missing from the log."""
    url_ttl_seconds: float = 86_400.0
    """Real: how long a video's address is good. A download takes as long at any speed."""

    def __post_init__(self) -> None:
        if not self.speed > 0:
            raise UsageError(f"the speed must be above 0, not {self.speed}")
        if self.sigma is not None and not self.sigma >= 0:
            raise UsageError(f"sigma must not be below 0, but is {self.sigma}")
