"""A job: the states it passes through, what was asked for, and the row that a stage works on."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from pathlib import Path


class State(StrEnum):
    """Where a job stands. Every change between two states is in `TRANSITIONS`."""

    PENDING = "pending"  #: nothing sent; may be submitted when the limits allow
    SUBMITTING = "submitting"  #: the intent is committed; a paid request may be on the wire
    UNCONFIRMED = "unconfirmed"  #: sent, answer unknown: it may be paid for, so nobody sends it again
    GENERATING = "generating"  #: the service accepted it; the generation id is stored
    DOWNLOADING = "downloading"  #: the video exists at the service; the file is not yet whole here
    DONE = "done"  #: the file is delivered
    FAILED = "failed"  #: gave up; the reason is kept
    CANCELLED = "cancelled"  #: a person said so, or it left the manifest before it was sent


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

TERMINAL = frozenset({State.DONE, State.FAILED, State.CANCELLED})
"""States in which nothing more happens by itself."""


@dataclass(frozen=True, slots=True)
class JobSpec:
    """A job as the manifest asks for it: valid, expanded, with nothing left to look up.

    `request` is the JSON body of the create call as text, keys in the manifest's order after `model`. A local image
    stands in it as the path the manifest gave, and `input_pointers` holds the JSON pointers of those values
    ("/image_url", "/image_urls/0"): they are read and base64-encoded only when the request is sent.
    """

    key: str
    model: str
    endpoint: str
    """The path of the create and fetch calls, such as "/v2/video/generations"."""
    request: str
    output: str
    """Where the video goes, relative to the manifest's folder, with `/` between the parts."""
    input_pointers: tuple[str, ...] = ()
    priority: int = 0
    tags: tuple[str, ...] = ()
    source: Path | None = field(default=None, compare=False)
    """The manifest that it is written in, as a person would name it: the one that was asked for, or one included."""
    line: int = 1
    """The line there on which the job begins."""
    origin: object = field(default=None, compare=False)
    """Says, as text, which row or cell it was made from, such as "products.csv:17"; None for a job of its own."""

    @property
    def place(self) -> str:
        """Where it is written, such as "manifest.yaml:12, products.csv:17"."""
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
