"""The protocol of a video service: what it can do, the outcomes of its calls as values, and how a plug-in offers it.

The words of an API stop behind it. No call raises for what a service or a network may do: it returns an outcome.
"""

from __future__ import annotations

import base64
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from operator import attrgetter
from typing import Any

from batchgen.catalogue import pointers
from batchgen.jobs import ChargeSource
from batchgen.services.account import Variables, origin_of
from batchgen.services.outcomes import (
    CancelOutcome,
    FetchOutcome,
    FindOutcome,
    NoAnswer,
    PrepareOutcome,
    SubmitOutcome,
    Unsupported,
)
from batchgen.services.text import MESSAGE_CHARS, one_line

AT_ONCE = 16  # requests of one kind on the wire (creates, questions): enough for hundreds of jobs a minute


class Adoption(StrEnum):
    """By what a service can prove which generation a lost create request made."""

    EXACT_ID = "exact_id"  #: it remembers our client request id: `find` and `history` look for it
    EXACT_BODY = "exact_body"  #: it remembers the bodies of requests, so that twins are ambiguous
    NONE = "none"  #: by nothing: a person decides


class Queueing(StrEnum):
    """What a service does with a create request beyond the account's limit."""

    REFUSES = "refuses"  #: it answers 429, from which adaptive limits learn
    ACCEPTS = "accepts"  #: it queues the request, so that there is nothing to learn


class Cancelling(StrEnum):
    """What it costs to cancel a generation."""

    FREE = "free"
    CHARGED = "charged"
    NONE = "none"  #: it cannot be cancelled


@dataclass(frozen=True, slots=True)
class Features:
    """What a service can do."""

    adopt: Adoption
    queueing: Queueing = Queueing.REFUSES
    cancel: Cancelling = Cancelling.NONE
    keeps_results_for: timedelta | None = None
    """How long it keeps a finished file; None where nothing is said."""
    charges: ChargeSource = ChargeSource.ESTIMATE
    """Where the true cost of a generation comes from. A cost that an answer names goes before."""
    has_lasting_address: bool = True
    """Whether it has the same address in every run; a simulator of its own has not."""
    speed: float = 1.0
    """How many times faster generations end than the catalogue documents; only a simulator differs."""
    prepares: bool = False
    """Whether `Service.prepare` has work to do before a create request."""


@dataclass(frozen=True, slots=True)
class SentAttempt:
    """A create request that was sent, for `Service.find`.

    One with a `generation_id` is not searched for: it shows which generation belongs to a twin of the others.
    """

    client_request_id: str
    model: str
    endpoint: str
    """A path of the service; empty for one without a catalogue."""
    request: str
    """JSON, with the paths of local files in the places of the files."""
    input_pointers: tuple[str, ...]
    intent_at: datetime
    generation_id: str | None = None
    handle: Mapping[str, Any] = field(default_factory=dict)
    """What `Service.prepare` returned."""


@dataclass(frozen=True, slots=True)
class PastGeneration:
    """A generation that the service remembers, with the client request id of the request that made it."""

    client_request_id: str
    generation_id: str
    accepted_at: datetime
    cost_usd: Decimal | None = None
    is_certain: bool = True
    """False where the service calls the create request failed: the id may lead to no generation."""


@dataclass(frozen=True, slots=True)
class History:
    """The account's generations, as far back as `since`: the moment that was asked for, or where a bound was met."""

    generations: Sequence[PastGeneration]
    since: datetime


class TransactionKind(StrEnum):
    """What a transaction of the account is."""

    CHARGE = "charge"  #: money for the use of a model
    REFUND = "refund"  #: such money given back
    OTHER = "other"  #: all else that moves the balance: payments, bonuses, adjustments of no generation


@dataclass(frozen=True, slots=True)
class Transaction:
    """One entry of the account's transactions.

    `amount_usd` is exact and not negative; only that of an `OTHER` has a sign: what it adds to the balance.
    """

    kind: TransactionKind
    at: datetime
    amount_usd: Decimal
    generation_id: str | None = None
    """The generation that it is about; None where the service names none."""
    model: str = ""
    type: str = ""
    """The service's own word for it."""
    id: str = ""
    """The service's id of the transaction, where it has one; otherwise two equal ones of a page are two."""

    @property
    def signed_usd(self) -> Decimal:
        """The amount, negative where it gives back what was charged."""
        return -self.amount_usd if self.kind is TransactionKind.REFUND else self.amount_usd


@dataclass(frozen=True, slots=True)
class TransactionPage:
    """Some of the account's transactions, newest first, and the cursor of the next page; None on the last one."""

    rows: Sequence[Transaction]
    cursor: str | None = None
    unreadable: int = 0
    """How many entries of the page are not among `rows`, because they cannot be read."""


@dataclass(frozen=True, slots=True)
class Listing:
    """A price list: `pricing` is JSON by model name, aliases included; None where the list of `etag` is still valid."""

    etag: str | None
    pricing: Mapping[str, str] | None
    documents: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Model → address of the OpenAPI document that has its request schema, for models that the catalogue lacks."""
    names: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Further name → model, for names that the catalogue lacks."""


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A local file that travels with a request."""

    name: str
    media_type: str
    content: bytes = field(repr=False)

    @property
    def data_uri(self) -> str:
        """The file as a data URI (RFC 2397)."""
        return f"data:{self.media_type};base64,{base64.b64encode(self.content).decode()}"


@dataclass(frozen=True, slots=True)
class Submission:
    """A create request: the parameters as JSON, and the local files by the JSON pointers of their places in it."""

    model: str
    endpoint: str
    """A path of the service; empty for one without a catalogue."""
    request: str
    client_request_id: str
    files: Mapping[str, LocalFile] = field(default_factory=dict)
    handle: Mapping[str, Any] = field(default_factory=dict)
    """What `Service.prepare` returned."""

    def body(self, encode: Callable[[LocalFile], str] = attrgetter("data_uri")) -> bytes:
        """The parameters as JSON, with each local file in its place as `encode` writes it: some services take bare
        base64."""
        if not self.files:
            return self.request.encode()
        document = json.loads(self.request)
        for pointer, file in self.files.items():
            container, key = pointers.parent_of(document, pointer)
            container[key] = encode(file)
        return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


class Service(ABC):
    """A video service, with one account. Implementations are safe to call concurrently.

    They wait with `await` only: a call that blocks stops the whole run. One that takes too long is given up
    (`boundary.py`), a create as one that may be accepted.

    `account` is a label of the key: another one for each key, the same in every process, with nothing of the key in it.
    What the service does not show to one account proves nothing about the requests of another. `base_url` and
    `variables` are for messages. What a service cannot do, it leaves as it is here.
    """

    name: str
    base_url: str
    account: str
    features: Features
    variables: Variables

    @property
    def origin(self) -> str:
        """The origin of its address, the only one that gets the key; "" where the address does not last."""
        return origin_of(self.base_url) if self.features.has_lasting_address else ""

    @property
    def clock_offset(self) -> timedelta:
        """How far the service's clock is ahead of this machine's, by its last answer; zero where it does not say."""
        return timedelta(0)

    def printable(self, text: object, most: int = MESSAGE_CHARS) -> str:
        """One line of a text from elsewhere, a file too, to show and to store. `boundary.py` blots the key out."""
        return one_line(str(text), most)

    async def prepare(self, _submission: Submission) -> Mapping[str, Any] | PrepareOutcome:
        """Free work before the paid request, such as uploads. What it returns is stored with the attempt beforehand."""
        return {}

    @abstractmethod
    async def submit(self, submission: Submission) -> SubmitOutcome:
        """Send one create request, once. `Accepted` costs money, `Unknown` may."""

    @abstractmethod
    async def fetch(self, handle: Mapping[str, Any]) -> FetchOutcome:
        """Ask how one generation is doing. Free."""

    async def find(self, _attempts: Sequence[SentAttempt]) -> Mapping[str, FindOutcome] | NoAnswer:
        """Search the service's memory for lost create requests, sent at about the same time.

        Returns what it says of each by client request id; one that is missing could not be searched for to the end.
        """
        return {}

    async def history(self, _since: datetime, _until: datetime | None = None) -> History | NoAnswer | None:
        """The account's generations between two moments, without `_until` up to now; the newest, where there are many.

        None where the service does not keep client request ids.
        """
        return None

    async def cancel(self, _handle: Mapping[str, Any]) -> CancelOutcome:
        """Cancel one generation."""
        return Unsupported()

    async def transactions(
        self, _start: datetime, _end: datetime, _cursor: str | None = None
    ) -> TransactionPage | NoAnswer | None:
        """A page of all that moved the account's money between two moments: the first, or that of a cursor.

        None where the service lists no transactions. `services/statement.py` reads all pages.
        """
        return None

    async def balance(self) -> Decimal | None:
        """What the account has left, in USD; None where the service does not say."""
        return None

    async def catalogue(self, _etag: str | None = None) -> Listing | None:
        """The price list, unless that of `etag` is still valid; None where it cannot be had soon. Needs no key."""
        return None

    async def typical_seconds(self, _models: Sequence[str]) -> Mapping[str, float]:
        """The median generation time in seconds of each model for which the service has figures."""
        return {}

    @abstractmethod
    async def close(self) -> None:
        """Close the connections."""
