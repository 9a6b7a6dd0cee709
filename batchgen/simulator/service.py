"""A simulated service without its API: its settings, and its rules for keys, limits, times and acceptance."""

import math
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from statistics import NormalDist
from typing import Any, Literal

from starlette.exceptions import HTTPException

from batchgen.catalogue.durations import typical_seconds
from batchgen.clock import utcnow
from batchgen.errors import UsageError
from batchgen.simulator.clips import ClipStore
from batchgen.simulator.faults import CHARGE_FAULTS, LOG_ROW_FAULTS, Fault, Faults, uniform
from batchgen.simulator.ledger import Generation, GenerationRequest, Ledger, RequestRecord, charges_of, timestamp, usd

ERRORS = {
    400: "The prompt was refused by the content filter.",
    401: "Invalid API key. You can get a key in your account.",
    403: "You have run out of credits. Top up your balance to go on.",
    429: "Too many requests. Slow down and try again.",
}
LOG_LAG_SECONDS = 600.0  # of the fault `lag` where its rule names none: far longer than the log is usually late
NORMAL = NormalDist()
DOCUMENTED_SIGMA = math.log(4 / 3) / (2 * NORMAL.inv_cdf(0.9))
"""Four of five generations end within a range such as 3 to 4 minutes: so wide are the ranges that services document."""
OUTCOMES: dict[str, Literal["error", "stuck"]] = {"generation_error": "error", "stuck": "stuck"}  # by the fault
NTH_LAST_REQUEST = """
SELECT at FROM requests WHERE at > ? AND status IS NOT 429 AND (kind = ? OR ? = 'any' AND kind <> 'cdn')
ORDER BY at DESC LIMIT 1 OFFSET ?"""


@dataclass(frozen=True, slots=True)
class AccountLimits:
    """What the simulated account may do; `None` is no limit. Its minutes are compressed by `Simulation.speed`."""

    requests_per_minute: int | None = None  # API requests of all kinds together
    creates_per_minute: int | None = None
    log_requests_per_minute: int | None = 200
    in_flight: int | None = None  # generations in progress at once, over all processes on the same ledger
    balance_usd: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Simulation:
    """The settings of a simulated service. Its seconds are compressed by `speed`, except where a setting says real."""

    speed: float = 60.0  # 60 means that a generation of 210 s takes 3.5 s
    sigma: float | None = None  # standard deviation of the logarithm of generation times; `None`: as documented
    seed: int = 0  # generation times and faults follow from it and from the requests' bodies; ids are always new
    ledger: Path | None = None  # an SQLite file that outlives the process and may be shared; `None`: memory
    key: str | None = None  # the only API key that is accepted; `None`: every key
    latency_seconds: float = 0.0  # real, before every answer
    faults: Mapping[str, Any] = field(default_factory=dict)  # by place, then by name: see `faults.NAMES`
    limits: AccountLimits = AccountLimits()
    instant: bool = False  # serve copies of one small clip, each with other bytes, and render nothing
    lag_seconds: float = 30.0  # how late a create request appears in the service's log
    control_token: str = field(default_factory=lambda: secrets.token_urlsafe(16), repr=False)
    """Whoever knows it may use the control endpoints: other programs and web pages reach the port as well."""

    def __post_init__(self) -> None:
        if not self.speed > 0:
            raise UsageError(f"the speed must be above 0, not {self.speed}")
        if self.sigma is not None and not self.sigma >= 0:
            raise UsageError(f"sigma must not be below 0, but is {self.sigma}")


class SimulatedService:
    """A simulated service. Raises `StorageError` or `UsageError` for an unusable ledger or unknown faults."""

    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation
        self.faults = Faults(simulation.faults, simulation.seed)
        self.ledger = Ledger(simulation.ledger)
        self.clips = ClipStore(self.ledger, instant=simulation.instant)
        self.expired_urls: dict[str, int] = {}
        """Nonces of URLs that a fault has expired, with the status that they answer."""

    def close(self) -> None:
        self.clips.close()
        self.ledger.close()

    def compressed(self, seconds: float) -> timedelta:
        """How long `seconds` of the service take in real time. Dates are real; only durations are compressed."""
        return timedelta(seconds=seconds / self.simulation.speed)

    def check_key(self, authorization: str) -> None:
        """Raise 401 unless a header `Authorization: Bearer <key>` has an accepted key."""
        scheme, _, key = authorization.partition(" ")
        if scheme.lower() != "bearer" or not key or key != (self.simulation.key or key):
            raise HTTPException(401, ERRORS[401])

    def check_rate(self, kind: str, limit: int | None) -> None:
        """Raise 429 where the last minute had `limit` requests of this kind, or of `any`, that were not throttled."""
        if limit is None:
            return
        now, minute = utcnow(), self.compressed(60)
        rows = self.ledger.query(NTH_LAST_REQUEST, timestamp(now - minute), kind, kind, limit - 1)
        if rows:
            raise self._throttled(datetime.fromisoformat(rows[0]["at"]) + minute - now)

    def check_account(self, micro_usd: int) -> None:
        """Raise 403 where the balance does not cover one more charge, 429 where no more may be in progress."""
        limits = self.simulation.limits
        if limits.balance_usd is not None and self.ledger.charged_usd() + usd(micro_usd) > limits.balance_usd:
            raise HTTPException(403, ERRORS[403])
        if limits.in_flight is not None and self.ledger.in_flight(utcnow()) >= limits.in_flight:
            raise self._throttled(self.compressed(1))

    def _throttled(self, wait: timedelta) -> HTTPException:
        """Retry-After is a whole number of the service's seconds, which are compressed like all its durations."""
        speed = self.simulation.speed
        seconds = max(1, math.ceil(wait.total_seconds() * speed - 1e-6))
        return throttled(seconds if speed == 1 else f"{seconds / speed:.6f}")

    def accept(
        self, request: GenerationRequest, image: bytes | None, generation_id: str, record: RequestRecord
    ) -> Generation:
        """Commit a generation, its charge at its end, and its create request, whatever becomes of the answer."""
        now, settings = utcnow(), self.simulation
        nth = self.ledger.count_of(request.digest)
        subject = f"{request.digest}#{nth}"
        fault = self.faults.draw("fetch", subject, OUTCOMES)
        outcome: Literal["completed", "error", "stuck"] = OUTCOMES[fault.name] if fault else "completed"
        quantile = uniform(settings.seed, "duration", subject)
        seconds = generation_seconds(request.model, request.seconds, quantile, settings.sigma)
        generation = Generation(
            **vars(request),
            id=generation_id,
            nth=nth,
            client_request_id=record.client_request_id,
            key=record.key,
            file=f"{secrets.token_urlsafe(16)}.mp4",
            created_at=timestamp(now),
            finishes_at=None if outcome == "stuck" else timestamp(now + self.compressed(seconds)),
            outcome=outcome,
        )
        record.reserved_id = record.generation_id = generation.id
        record.logged_at = self.logged_at(self.faults.draw("log", subject, LOG_ROW_FAULTS))
        charge_fault = self.faults.draw("billing", subject, CHARGE_FAULTS)
        self.ledger.accept(generation, record, image, charges_of(generation, charge_fault, settings.speed))
        return generation

    def logged_at(self, fault: Fault | None = None) -> str | None:
        """When the service's log shows a create that happens now; `None` for never."""
        lag = self.simulation.lag_seconds
        if fault and fault.name == "missing":
            return None
        if fault:
            lag += LOG_LAG_SECONDS if fault.seconds is None else fault.seconds
        return timestamp(utcnow() + self.compressed(lag))


def error_of(fault: Fault) -> HTTPException:
    """The error that a fault is named for."""
    if fault.status != 429:
        return HTTPException(fault.status, ERRORS.get(fault.status))
    return throttled(1 if fault.retry_after is None and fault.choice < 0.5 else fault.retry_after)


def throttled(retry_after: object) -> HTTPException:
    """The error 429 with a header Retry-After, or without it for `None`."""
    headers = None if retry_after is None else {"retry-after": str(retry_after)}
    return HTTPException(429, ERRORS[429], headers)


def generation_seconds(model: str, clip_seconds: float, quantile: float, sigma: float | None = None) -> float:
    """The service's seconds within which a share `quantile` of the generations of such a clip end.

    The times are lognormal around the documented median; `sigma` is the standard deviation of their logarithm.
    """
    spread = DOCUMENTED_SIGMA if sigma is None else sigma
    return typical_seconds(model, clip_seconds) * math.exp(spread * NORMAL.inv_cdf(quantile))
