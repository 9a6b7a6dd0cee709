"""What a video service is to the stages: four calls, and outcomes that are values.

Wire words stop below this module. Nothing here raises for what a service or a network may do: a stage looks at the
value it gets and writes it down.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Protocol

AT_ONCE = 16
"""Requests of one purpose on the wire: creates, and questions."""


class Trouble(StrEnum):
    """Why the account may not submit."""

    AUTH = "auth"  #: the key is missing, wrong or revoked
    CREDITS = "credits"  #: out of credits, or a limit of the plan
    ADDRESS = "address"  #: the base URL answers, but is not this service


class Limit(StrEnum):
    """Which limit of the account a refusal is for."""

    RATE = "rate"  #: too many requests in some time
    IN_FLIGHT = "in_flight"  #: too many generations at once
    QUOTA = "quota"  #: all that the account may have for hours


# --- what became of a create call ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Accepted:
    """The service has it, and will charge for it. `cost_usd` where the answer names the charge."""

    generation_id: str
    cost_usd: Decimal | None = None
    http_status: int | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """Refused for good; sending the same again would be refused again. Nothing is charged."""

    reason: str
    http_status: int | None = None


@dataclass(frozen=True, slots=True)
class NotSent:
    """Proof that the request never left: it may be sent again freely."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """It left, and no readable answer came back: it may exist and be charged for."""

    reason: str
    http_status: int | None = None


@dataclass(frozen=True, slots=True)
class Throttled:
    """Too fast or too many at once; not the job's fault. `retry_after` where the service says how long to wait."""

    reason: str
    retry_after: timedelta | None = None
    http_status: int = 429
    limit: Limit | None = None
    """Where the service's words tell which; None: only the facts can."""


@dataclass(frozen=True, slots=True)
class Blocked:
    """The account may not submit anything now; no job is to blame."""

    trouble: Trouble
    reason: str
    http_status: int | None = None


SubmitOutcome = Accepted | Rejected | NotSent | Unknown | Throttled | Blocked


# --- what a fetch call says ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Working:
    """Not finished. `word` is the service's own, known or not."""

    word: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The video exists. `url` is empty where the service says finished and names no video."""

    url: str
    word: str = "completed"
    size: int | None = None
    cost_usd: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """The generation failed at the service, which does not charge for it."""

    name: str
    message: str
    word: str = "error"


@dataclass(frozen=True, slots=True)
class Unavailable:
    """No answer about the job, which may be doing well: ask again later. Never a job's error."""

    reason: str
    trouble: Trouble | None = None
    http_status: int | None = None
    retry_after: timedelta | None = None


FetchOutcome = Working | Finished | Failed | Unavailable | Throttled


# --- the service's own request log -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LoggedRequest:
    """A create call as the service's log remembers it."""

    client_request_id: str
    generation_id: str | None
    succeeded: bool
    created: datetime
    cost_usd: Decimal | None = None


@dataclass(frozen=True, slots=True)
class LogPage:
    """All rows of a window of the log that carry a client request id; `complete` unless paging was cut short."""

    rows: Sequence[LoggedRequest]
    complete: bool = True


# --- money -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Listing:
    """The service's price list: JSON by model name, aliases included. `pricing` is None where the list is still the
    one that was asked about by its `etag`."""

    etag: str | None
    pricing: Mapping[str, str] | None


@dataclass(frozen=True, slots=True)
class Submission:
    """One create call, ready to send: `body` is the JSON text with local files already encoded."""

    endpoint: str
    body: bytes
    client_request_id: str


class Service(Protocol):
    """A video service. Implementations are safe to call concurrently."""

    name: str
    base_url: str
    account: str
    """A label by which what is learned of an account is kept. It tells nothing of the key."""
    has_log: bool

    async def submit(self, submission: Submission) -> SubmitOutcome:
        """Send one create call, once. It costs money if `Accepted` or `Unknown`."""

    async def fetch(self, endpoint: str, generation_id: str, base_url: str | None = None) -> FetchOutcome:
        """Ask how one generation is doing, where it was submitted (`base_url`, if not here). Free, safe to repeat."""

    async def log(self, start: datetime, end: datetime) -> LogPage | Unavailable | Throttled:
        """Read the service's request log between two moments."""

    async def charges(self, start: datetime, end: datetime) -> Mapping[str, Decimal]:
        """What the account was charged between two moments, in USD by generation id; empty where nobody tells."""

    async def balance(self) -> Decimal | None:
        """USD that the account has left; None where nobody tells."""

    async def catalogue(self, etag: str | None = None) -> Listing | None:
        """The price list, unless it is still that of `etag`; needs no key. None where it cannot be had soon."""

    async def typical_seconds(self, models: Sequence[str]) -> Mapping[str, float]:
        """Median generation time in seconds of each model the service has figures for; empty where it has none."""

    async def close(self) -> None:
        """Close connections."""
