"""Jobs: their states with the facts about each, the transitions, and a job as the manifest and as the table has it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from pathlib import Path


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
    CANCELLED = "cancelled"  #: a person cancelled it, or it left the manifest before it was sent

    @property
    def is_in_flight(self) -> bool:
        """The service may be working on it, so it counts against the limit of generations in flight."""
        return self in (State.SUBMITTING, State.UNCONFIRMED, State.GENERATING)

    @property
    def is_accepted(self) -> bool:
        """The service accepted it and has not failed it: there is a generation id."""
        return self in (State.GENERATING, State.DOWNLOADING, State.DONE)

    @property
    def is_unaccepted(self) -> bool:
        """No acceptance is known: there is no generation id. Failed and cancelled jobs may have one or not."""
        return self in (State.PENDING, State.SUBMITTING, State.UNCONFIRMED)

    @property
    def is_terminal(self) -> bool:
        """Nothing more happens without a person."""
        return self in (State.DONE, State.FAILED, State.CANCELLED)

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
        """It follows the manifest: nothing has been sent that could be paid for."""
        return self in (State.PENDING, State.CANCELLED)


TRANSITIONS: dict[State, frozenset[State]] = {
    State.PENDING: frozenset({State.SUBMITTING, State.CANCELLED}),
    State.SUBMITTING: frozenset({State.GENERATING, State.PENDING, State.FAILED, State.UNCONFIRMED}),
    State.UNCONFIRMED: frozenset({State.GENERATING, State.PENDING, State.FAILED}),
    State.GENERATING: frozenset({State.DOWNLOADING, State.FAILED}),
    State.DOWNLOADING: frozenset({State.DONE}),
    State.DONE: frozenset(),
    State.FAILED: frozenset({State.PENDING}),
    State.CANCELLED: frozenset({State.PENDING}),
}


class Outcome(StrEnum):
    """What became of one create request."""

    SENDING = "sending"  #: committed before the request leaves; still so after a crash
    UNCONFIRMED = "unconfirmed"  #: sent, and no readable answer: the reconciler searches the service's log for it
    ACCEPTED = "accepted"  #: a generation exists; its id is stored
    REJECTED = "rejected"  #: refused for good, nothing charged
    NOT_SENT = "not_sent"  #: proof that it never left
    THROTTLED = "throttled"  #: too fast; nothing charged
    BLOCKED = "blocked"  #: key or credits; nothing charged
    ABSENT = "absent"  #: not in the service's log after the whole waiting time, and given up

    @property
    def is_undecided(self) -> bool:
        """Nobody knows yet whether the service accepted it."""
        return self in (Outcome.SENDING, Outcome.UNCONFIRMED)

    @property
    def may_be_paid(self) -> bool:
        """It may have cost money, so it bars a second attempt of its job until a person releases it."""
        return self.is_undecided or self is Outcome.ACCEPTED


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
    priority: int = 0
    tags: tuple[str, ...] = ()
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
class Job:
    """A row of the job table, as a stage that holds its lease sees it."""

    id: int
    key: str
    state: State
    service: str
    base_url: str | None
    endpoint: str
    model: str
    request: str
    input_pointers: tuple[str, ...]
    output_path: str
    attempt_id: int | None
    generation_id: str | None
    remote_status: str | None
    video_url: str | None
    etag: str | None
    bytes: int | None
    sha256: str | None
    failures: int
    submitted_at: datetime | None
    polled_at: datetime | None
    deadline_at: datetime | None
    cost_usd: Decimal | None
