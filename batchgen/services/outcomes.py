"""The outcomes of a service's calls, as values: what each proves, and what a stage writes down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any

from batchgen.jobs import ErrorClass

PAUSE_MAX = timedelta(minutes=5)
"""A longer pause is not waited out: it may be a mistake (of units, of a clock), so one request tries again before that.
"""


class Trouble(StrEnum):
    """Why the account may not submit."""

    AUTH = "auth"  #: the key is missing, wrong or revoked
    CREDITS = "credits"  #: out of credits, or a limit of the plan
    KEY = "key"  #: the key lacks a permission (scope), or has reached a limit of its own
    ADDRESS = "address"  #: the base URL answers, but is not this service


class Limit(StrEnum):
    """The limit of an account that a refusal is about."""

    RATE = "rate"  #: requests in a period
    IN_FLIGHT = "in_flight"  #: generations at once
    QUOTA = "quota"  #: a total for hours or days


@dataclass(frozen=True, slots=True)
class Accepted:
    """The service generates, and charges for it: `cost_usd`, where the answer names the charge.

    `handle` is whatever finds the generation again: JSON that only the plug-in reads.
    """

    generation_id: str
    cost_usd: Decimal | None = None
    http_status: int | None = None
    handle: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rejected:
    """Refused for good: the same request would be refused again. Nothing is charged, and no other job is concerned.

    `input` names the parameter that it is about ("prompt", "image_url"), where the service tells.
    """

    reason: str
    http_status: int | None = None
    kind: ErrorClass = ErrorClass.PARAMETER
    input: str = ""


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


PrepareOutcome = Rejected | NotSent | Throttled | Blocked
"""Why a create call is not made."""
SubmitOutcome = Accepted | Rejected | NotSent | Unknown | Throttled | Blocked
"""What became of a create call."""


@dataclass(frozen=True, slots=True)
class Working:
    """Not finished. `word` is the service's status; `is_known` unless nobody can say whether it will ever end."""

    word: str
    is_known: bool = True


@dataclass(frozen=True, slots=True)
class Finished:
    """The generation is done. `files` are the addresses of its files; none where the service names no file.

    `about` is the generation that the answer names; one of another job was repeated by a proxy, and is not believed.
    """

    files: tuple[str, ...]
    word: str = "completed"
    cost_usd: Decimal | None = None
    about: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Failed:
    """The generation failed at the service. `cost_usd` is what it charges all the same; None where nobody tells.

    `input` names the parameter that it is about, where the service tells; `about` is as that of `Finished`.
    """

    message: str
    word: str = "error"
    kind: ErrorClass = ErrorClass.UNKNOWN
    input: str = ""
    cost_usd: Decimal | None = Decimal(0)
    about: str = field(default="", compare=False)


def failure_text(failure: Rejected | Failed) -> str:
    """A failure in words for a person: what it is about goes before the service's own message."""
    subject = failure.input or ("the content" if failure.kind is ErrorClass.MODERATION else "")
    verdict = "refused by moderation" if failure.kind is ErrorClass.MODERATION else "refused"
    message = failure.reason if isinstance(failure, Rejected) else failure.message
    return f"{subject}: {verdict}: {message}" if subject else message


@dataclass(frozen=True, slots=True)
class Unavailable:
    """No answer about the job, which may be doing well: ask again later."""

    reason: str
    trouble: Trouble | None = None
    http_status: int | None = None
    retry_after: timedelta | None = None

    @property
    def is_unknown_id(self) -> bool:
        """The service does not know the generation: not yet, or not any more."""
        return self.http_status in (400, 404, 410, 422)


NoAnswer = Unavailable | Throttled
FetchOutcome = Working | Finished | Failed | NoAnswer
"""What a fetch call says about a generation."""


@dataclass(frozen=True, slots=True)
class Adopted:
    """The service has it: this is its generation, which was accepted at `accepted_at`."""

    generation_id: str
    accepted_at: datetime
    cost_usd: Decimal | None = None
    handle: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Absent:
    """The service did not have it at `as_of`. It may be late, unless `proof` says why it will never come."""

    as_of: datetime
    proof: str = ""


@dataclass(frozen=True, slots=True)
class Ambiguous:
    """The service has several that it could be, or one that could be of several: a person decides."""

    reason: str


FindOutcome = Adopted | Absent | Ambiguous
"""What a service's memory says about one lost create request."""


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The service has cancelled the generation, and says that it charges `cost_usd`; None where it says nothing."""

    cost_usd: Decimal | None = None


@dataclass(frozen=True, slots=True)
class TooLate:
    """The generation has ended, or can no longer be cancelled."""


@dataclass(frozen=True, slots=True)
class Unsupported:
    """The service cannot cancel."""


CancelOutcome = Cancelled | TooLate | Unsupported | NoAnswer
