"""The protocol of a video service, and the outcomes of its calls as values.

The words of a service's API stop here. No call raises for what a service or a network may do: it returns an outcome,
and a stage writes it down.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Protocol

AT_ONCE = 16  # requests of one kind on the wire (creates, questions): enough for hundreds of jobs a minute


class Trouble(StrEnum):
    """Why the account may not submit."""

    AUTH = "auth"  #: the key is missing, wrong or revoked
    CREDITS = "credits"  #: out of credits, or a limit of the plan
    ADDRESS = "address"  #: the base URL answers, but is not this service


class Limit(StrEnum):
    """The limit of an account that a refusal is about."""

    RATE = "rate"  #: requests in a period
    IN_FLIGHT = "in_flight"  #: generations at once
    QUOTA = "quota"  #: a total for hours or days


@dataclass(frozen=True, slots=True)
class Accepted:
    """The service generates, and charges for it: `cost_usd`, where the answer names the charge."""

    generation_id: str
    cost_usd: Decimal | None = None
    http_status: int | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """Refused for good: the same request would be refused again. Nothing is charged."""

    reason: str
    http_status: int | None = None


@dataclass(frozen=True, slots=True)
class NotSent:
    """No byte of the request reached the service: it may be sent again."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """The request may have reached the service, and no readable answer came: it may be accepted and charged."""

    reason: str
    http_status: int | None = None


@dataclass(frozen=True, slots=True)
class Throttled:
    """Refused as too much, through no fault of the job. `retry_after` and `limit` where the service names them."""

    reason: str
    retry_after: timedelta | None = None
    http_status: int = 429
    limit: Limit | None = None


@dataclass(frozen=True, slots=True)
class Blocked:
    """The account may not submit anything now, through no fault of the job."""

    trouble: Trouble
    reason: str
    http_status: int | None = None


SubmitOutcome = Accepted | Rejected | NotSent | Unknown | Throttled | Blocked
"""What became of a create call."""


@dataclass(frozen=True, slots=True)
class Working:
    """Not finished. `word` is the service's status, whether batchgen knows it or not."""

    word: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The video exists. `url` is empty where the service reports success without a video."""

    url: str
    word: str = "completed"
    cost_usd: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """The generation failed at the service, which does not charge for it."""

    name: str
    message: str
    word: str = "error"


@dataclass(frozen=True, slots=True)
class Unavailable:
    """No answer about the job, which may be doing well: ask again later."""

    reason: str
    trouble: Trouble | None = None
    http_status: int | None = None
    retry_after: timedelta | None = None


FetchOutcome = Working | Finished | Failed | Unavailable | Throttled
"""What a fetch call says about a generation."""


@dataclass(frozen=True, slots=True)
class LoggedRequest:
    """A create call as the service's request log has it."""

    client_request_id: str
    generation_id: str | None
    succeeded: bool
    created: datetime
    cost_usd: Decimal | None = None


@dataclass(frozen=True, slots=True)
class LogPage:
    """All rows of a window of the log that carry a client request id; `complete` unless there were too many pages."""

    rows: Sequence[LoggedRequest]
    complete: bool = True


@dataclass(frozen=True, slots=True)
class Listing:
    """A price list: `pricing` is JSON by model name, aliases included; None where the list of `etag` is still valid."""

    etag: str | None
    pricing: Mapping[str, str] | None


@dataclass(frozen=True, slots=True)
class Submission:
    """A create call, ready to send: `body` is JSON with the local files already encoded."""

    endpoint: str
    body: bytes
    client_request_id: str


class Service(Protocol):
    """A video service. Implementations are safe to call concurrently.

    `account` labels what is learned about the account, and shows nothing of the key.
    """

    name: str
    base_url: str
    account: str
    has_log: bool

    async def submit(self, submission: Submission) -> SubmitOutcome:
        """Send one create call, once. `Accepted` costs money, `Unknown` may."""

    async def fetch(self, endpoint: str, generation_id: str, base_url: str | None = None) -> FetchOutcome:
        """Ask how one generation is doing, at the `base_url` it was submitted to, if that is another. Free."""

    async def log(self, start: datetime, end: datetime) -> LogPage | Unavailable | Throttled:
        """Read the service's request log between two moments."""

    async def charges(self, start: datetime, end: datetime) -> Mapping[str, Decimal]:
        """What the account was charged between two moments, in USD by generation id, as far as the service says."""

    async def balance(self) -> Decimal | None:
        """What the account has left, in USD; None where the service does not say."""

    async def catalogue(self, etag: str | None = None) -> Listing | None:
        """The price list, unless that of `etag` is still valid; None where it cannot be had soon. Needs no key."""

    async def typical_seconds(self, models: Sequence[str]) -> Mapping[str, float]:
        """The median generation time in seconds of each model for which the service has figures."""

    async def close(self) -> None:
        """Close the connections."""
