"""Jobs: their states with the facts about each, the transitions, and a job as the manifest and as the table has it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple


class State(StrEnum):
    """Where a job stands. The properties are the only definitions of these facts: constraints, indexes, counts and
    reports are made from them. Every change between two states is in `TRANSITIONS`."""

    PENDING = "pending"  #: nothing sent; may be submitted when the limits allow
    SUBMITTING = "submitting"  #: the intent is committed; a paid request may be on the wire
    UNCONFIRMED = "unconfirmed"  #: sent, answer unknown: it may be paid for, so nobody sends it again
    GENERATING = "generating"  #: the service accepted it; the generation id is stored
    DOWNLOADING = "downloading"  #: the video exists at the service; the file is not yet whole here
    DONE = "done"  #: the file is delivered
    FAILED = "failed"  #: gave up; the reason is kept
    CANCELLED = "cancelled"  #: a person cancelled it, sent or not, or it left the manifest before it was sent

    @property
    def is_in_flight(self) -> bool:
        """The service may be working on it, so it counts against the limit of generations in flight."""
        return self in (State.SUBMITTING, State.UNCONFIRMED, State.GENERATING)

    @property
    def is_accepted(self) -> bool:
        """The service accepted it and has not failed it: its attempt has a generation id."""
        return self in (State.GENERATING, State.DOWNLOADING, State.DONE)

    @property
    def is_terminal(self) -> bool:
        """Nothing more happens without a person."""
        return self in ENDED_AT

    @property
    def may_be_paid(self) -> bool:
        """It was sent, and may have cost money or may still."""
        return self.is_in_flight or self.is_accepted

    @property
    def is_active(self) -> bool:
        """It was sent and has not ended: a run brings it to its end whatever the limits say."""
        return self.may_be_paid and not self.is_terminal

    @property
    def is_unsent(self) -> bool:
        """It follows the manifest, unless it has an attempt: nothing was sent that could be paid for."""
        return self in (State.PENDING, State.CANCELLED)

    @property
    def is_cancellable(self) -> bool:
        """A person may cancel it. What was sent may be charged all the same: its attempt stays in the ledger."""
        return State.CANCELLED in TRANSITIONS[self]

    @property
    def is_retriable(self) -> bool:
        """A person may try it again: by asking for the same generation, or by a new attempt."""
        return self in (State.FAILED, State.CANCELLED)


ENDED_AT = {State.DONE: "delivered_at", State.FAILED: "failed_at", State.CANCELLED: "cancelled_at"}
"""The column with the time at which a job ended in a state."""
WAITS_FOR = {
    State.DOWNLOADING: "downloads",
    State.GENERATING: "generations at the service",
    State.UNCONFIRMED: "the service to tell whether a request was accepted",
}
"""What brings a job on that was sent, in words. In no other state a job stays."""
CHARGES = {
    State.PENDING: "not sent, so nothing more is charged",
    State.UNCONFIRMED: "sent, and the answer is unknown: it may be charged",
    State.GENERATING: "accepted by the service, which may finish it and charge it; the video is not fetched",
    State.DOWNLOADING: "finished and charged; the video is not fetched",
    State.FAILED: "failed before; what it cost stays as it was",
}
"""What a job has cost that a person cancels, in words."""

TRANSITIONS: dict[State, frozenset[State]] = {
    State.PENDING: frozenset({State.SUBMITTING, State.CANCELLED}),
    State.SUBMITTING: frozenset({State.GENERATING, State.PENDING, State.FAILED, State.UNCONFIRMED}),
    State.UNCONFIRMED: frozenset({State.GENERATING, State.PENDING, State.FAILED, State.CANCELLED}),
    State.GENERATING: frozenset({State.DOWNLOADING, State.FAILED, State.CANCELLED}),
    State.DOWNLOADING: frozenset({State.DONE, State.FAILED, State.CANCELLED}),
    # Except for pending, what a person tries again keeps its attempt: the same generation is asked for, for nothing.
    State.DONE: frozenset({State.DOWNLOADING}),
    State.FAILED: frozenset({State.PENDING, State.UNCONFIRMED, State.GENERATING, State.DOWNLOADING, State.CANCELLED}),
    State.CANCELLED: frozenset({State.PENDING, State.UNCONFIRMED, State.GENERATING, State.DOWNLOADING}),
}


class Outcome(StrEnum):
    """What became of one create request."""

    SENDING = "sending"  #: committed before the request leaves; still so after a crash
    UNCONFIRMED = "unconfirmed"  #: sent, and no readable answer: the reconciler asks the service what became of it
    ACCEPTED = "accepted"  #: a generation exists; its id is stored
    REJECTED = "rejected"  #: refused for good, nothing charged
    NOT_SENT = "not_sent"  #: proof that it never left
    THROTTLED = "throttled"  #: too fast; nothing charged
    BLOCKED = "blocked"  #: key or credits; nothing charged
    ABSENT = "absent"  #: unknown to the service after the whole waiting time, and given up

    @property
    def is_undecided(self) -> bool:
        """Nobody knows yet whether the service accepted it."""
        return self in (Outcome.SENDING, Outcome.UNCONFIRMED)

    @property
    def may_be_paid(self) -> bool:
        """It may have cost money, so it bars a second attempt of its job until a person releases it."""
        return self.is_undecided or self is Outcome.ACCEPTED


UNDECIDED = tuple(outcome for outcome in Outcome if outcome.is_undecided)


class ErrorClass(StrEnum):
    """Why a job failed or was cancelled, or what stands in its way. A service reports those down to UNKNOWN."""

    PARAMETER = "parameter"  #: the service refuses a value of the request
    INPUT_FILE = "input_file"  #: an image or another file of the request cannot be read, here or at the service
    MODERATION = "moderation"  #: the service refuses the content of this job; it says nothing about other jobs
    CAPACITY = "capacity"  #: the service had no machine for it
    EXPIRED = "expired"  #: the service does not have the generation or its file any more
    INTERNAL = "internal"  #: a fault inside the service
    UNKNOWN = "unknown"  #: the service gives no reason that is understood
    NO_FILE = "no_file"  #: the service calls it finished, and names no file, or none that plays
    UNCONFIRMED = "unconfirmed"  #: the answer to its request was lost
    PERSON = "person"  #: a person cancelled it
    GONE = "gone"  #: it left the manifest before it was sent


PAID_FAILURES = frozenset({ErrorClass.NO_FILE, ErrorClass.EXPIRED, ErrorClass.UNCONFIRMED})
"""How a job fails whose generation was, or may have been, charged. A service charges nothing for other failures, unless
it names a cost."""


class ChargeSource(StrEnum):
    """What the cost of an attempt is known from."""

    ANSWER = "answer"  #: the answer to the create request
    POLL = "poll"  #: the answer to a poll
    LOG = "log"  #: the service's own memory of its requests
    LEDGER = "ledger"  #: the account's transactions
    ESTIMATE = "estimate"  #: the price list: the service tells no charges


class Verdict(StrEnum):
    """What a person says of a delivered clip."""

    PICKED = "picked"
    REJECTED = "rejected"


class Parent(NamedTuple):
    """The job that another one was made from: its batch may be in another job table, or gone."""

    batch: str
    key: str


@dataclass(frozen=True, slots=True)
class JobSpec:
    """A job as the manifest asks for it: valid, expanded, with nothing left to look up.

    `request` is the JSON body of the create call as text, keys in the manifest's order after `model`. A local image
    stands in it as the path from the manifest, and `input_pointers` holds the JSON pointers (RFC 6901) of those values
    ("/image_url", "/image_urls/0"): they are read and base64-encoded only when the request is sent.
    """

    key: str
    model: str
    endpoint: str
    """The path of the create and fetch calls, such as "/v2/video/generations"."""
    request: str
    output: str
    """The path of the video, relative to the manifest's folder, with `/` between the parts."""
    input_pointers: tuple[str, ...] = ()
    clip_seconds: float | None = None
    """The length of the clip, where the request names it."""
    priority: int = 0
    tags: tuple[str, ...] = ()
    take: int = 1
    """Which of the takes of one request it is."""
    parent: Parent | None = None
    """The job that it was made from by `batchgen next`."""
    source: Path | None = field(default=None, compare=False)
    """The file in which it is written, as a person would name it: the manifest, or one that the manifest includes."""
    line: int = 1
    """The line of that file on which the job begins."""
    origin: object = field(default=None, compare=False)
    """The row or cell that it was expanded from, as text such as "products.csv:17"; None for a job written out."""

    @property
    def place(self) -> str:
        """The position for messages, such as "manifest.yaml:12, products.csv:17"."""
        written = f"{self.source}:{self.line}" if self.source else f"line {self.line}"
        return f"{written}, {self.origin}" if self.origin else written


@dataclass(frozen=True, slots=True)
class Attempt:
    """One create request, and all that is remote: the generation that the service makes for it. Money in USD."""

    id: int
    client_request_id: str
    intent_at: datetime
    """When its intent was committed, just before it was sent."""
    deadline_at: datetime
    """After it the generation is late."""
    account: str = ""
    """A label of the key that it was sent with."""
    origin: str = ""
    """Scheme, host and port that it was sent to; "" where the service had no lasting address."""
    answered_at: datetime | None = None
    """When the service took it or refused it; of an adopted attempt, when the service says that it took it."""
    generation_id: str | None = None
    handle: Mapping[str, Any] = field(default_factory=dict)
    """What the service needs to find the generation again. Only its plug-in knows what is in it."""
    remote_status: str | None = None
    polled_at: datetime | None = None
    finished_at: datetime | None = None
    """When a poll saw that the generation had ended."""
    collect_by: datetime | None = None
    """After it the service may delete the files."""
    estimated_usd: Decimal | None = None
    cost_usd: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Output:
    """One file of a generation."""

    id: int
    number: int
    """From 1, in the service's order."""
    url: str
    path: str | None = None
    """Where it was delivered, relative to the manifest's folder; kept where it is to be fetched again."""
    etag: str | None = None
    bytes: int | None = None
    sha256: str | None = None
    refused: str | None = None
    """How often which bytes came that do not play as they should: JSON of SHA-256 → times."""
    delivered_at: datetime | None = None


TimingKind = tuple[str, float]
"""On which the time of a generation depends: the model, and the clip's length in seconds, 0 where none is named."""


def timing_kind(model: str, clip_seconds: float | None) -> TimingKind:
    return model, clip_seconds or 0.0


@dataclass(frozen=True, slots=True)
class Job:
    """A job with its current attempt, as a stage that holds its lease sees it."""

    id: int
    batch_id: int
    key: str
    state: State
    service: str
    model: str
    endpoint: str
    request: str
    clip_seconds: float | None
    input_pointers: tuple[str, ...]
    input_files: str | None
    """The SHA-256 of its local files when it was enrolled: JSON of name → digest."""
    fingerprint: str
    """Of the request, with the content of its local files (see `jobtable/fingerprint.py`)."""
    take: int
    output_path: str
    failures: int
    """In a row, of whatever its state is tried by: polls, searches, downloads."""
    error: str | None
    attempt: Attempt
    outputs: tuple[Output, ...] = ()
    """Only for a download."""

    @property
    def kind(self) -> TimingKind:
        return timing_kind(self.model, self.clip_seconds)
