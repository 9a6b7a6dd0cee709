"""The JSON lines of a run at work, and of a worker's runs, as types."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, NotRequired

from typing_extensions import TypedDict  # pydantic reads that of `typing` from Python 3.12 on

from batchgen.jobs import State
from batchgen.report.event_fields import Advice, More, Summary, WaitFor

FROM_TO = TypedDict("FROM_TO", {"from": State | None, "to": State})


class Enrolled(TypedDict):
    """The manifest's jobs are in the job table: the first line of a run."""

    event: Literal["enrolled"]
    batch: str
    new: int
    edited: int
    gone: int
    redone: int
    unchanged: int
    changed: list[str]
    """Jobs that were edited after they were sent."""


class Warned(TypedDict):
    """What may go wrong although the manifest is valid."""

    event: Literal["warning"]
    message: str


class Elsewhere(Advice):
    """Jobs that were sent to another address: the run does not ask for them."""

    event: Literal["elsewhere"]
    jobs: int
    origin: str


class Moved(FROM_TO):
    """A job has changed its state."""

    event: Literal["moved"]
    batch: NotRequired[str]
    """The batch, where several share the output."""
    at: datetime
    id: str
    detail: str | None


class Waiting(WaitFor):
    """What jobs wait for, when nothing has moved for a while or an error has come several times."""

    event: Literal["waiting"]
    batch: str
    at: datetime


class Notice(Advice):
    """The run does less than it could, and why; "" once it goes on."""

    event: Literal["notice"]
    batch: str
    at: datetime
    message: str


class Hooked(Advice):
    """The command of `--exec` has ended for a delivered file."""

    event: Literal["hook"]
    at: datetime
    id: str
    path: str
    exit_code: int
    message: str


class NotificationFailed(Advice):
    """A notification was not taken by its receiver."""

    event: Literal["notification_failed"]
    at: datetime
    message: str


class Done(Summary, More, Advice):
    """How a run ended: its last line."""

    event: Literal["done"]
    exit_code: int
    message: str
    failed: dict[str, int]
    """How many jobs failed, by the class of the error."""
    hooks_failed: int
    """Commands of `--exec` that failed in this run."""


class Steered(TypedDict):
    """A person has set a value, paused or resumed the batch, or changed jobs, while the run is at work."""

    event: Literal["steered"]
    batch: NotRequired[str]
    """The batch, where several share the output."""
    at: datetime
    name: str
    value: str | None
    """Null gives back what the options or the manifest say."""
    by: str
    message: str


class Worked(Advice):
    """A worker has begun or ended a run on a batch, or has nothing more to do ("" as batch)."""

    event: Literal["worker"]
    batch: str
    step: Literal["began", "ended", "idle"]
    exit_code: int | None
    """How the run ended."""
    message: str
    absent: int
    """Jobs that name local files which are not on this machine: only another one sends them."""
