"""What the JSON lines of `--json` have in common, and the lines of a run at work and of a worker's runs, as types."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict  # pydantic reads that of `typing` from Python 3.12 on

from batchgen.jobs import State


class Advice(TypedDict):
    """What a person or a program can do."""

    hint: str
    """What to do, in words; "" where there is nothing to do."""
    next: str | None
    """The command to type, where there is one."""


FOR = TypedDict("FOR", {"for": str})


class WaitFor(Advice, FOR):
    """What some jobs wait for, in words."""

    jobs: int
    until: datetime | None
    """When batchgen checks again."""
    collect_by: datetime | None
    """When the service may delete the first of the files that wait to be downloaded."""
    origin: str | None
    """Where they were sent, if that is not the service in use."""
    cause: str | None
    """The last error of most of these jobs."""
    job: str | None
    """The first of the jobs with that error."""


class Lost(TypedDict):
    """A delivered file that is not there as it was delivered."""

    id: str
    path: str
    fault: str


class LastRun(TypedDict):
    """How the last run of a batch ended."""

    ended_at: datetime
    exit_code: int | None
    message: str | None


class Summary(TypedDict):
    """How a batch stands."""

    batch: str
    jobs: int
    states: dict[State, int]
    held: int
    """Unconfirmed jobs that wait for a person."""
    late: int
    """Generations past their deadline."""
    stuck: int
    """Downloads that this run leaves to a later one."""
    cost_usd: Decimal
    reserved_usd: Decimal
    """For requests whose charge is not known yet."""
    unpriced: int
    """Requests whose charge is not known, nor their price: they are in neither sum."""
    bytes: int
    waits: list[WaitFor]


class More(TypedDict, total=False):
    """What a summary may have besides."""

    missing: list[Lost]
    """Delivered files that are not there any more."""
    remarks: list[str]
    suspect: int
    """Delivered clips that look wrong."""
    problems: list[dict[str, Any]]
    """What looks wrong with them."""
    bill: dict[str, Any] | None
    """Whether the account was charged what it should be."""


class SettingValue(TypedDict):
    """A value that is in force for a batch; null is no such limit."""

    name: str
    value: str | None
    source: Literal["setting", "option", "manifest", "default"]
    """Where it comes from. A setting goes before an option of a run, and that before the manifest."""
    set_at: datetime | None
    set_by: str | None
    run: str | None
    """The run whose option it is: its machine and process."""
    manifest: str | None
    """The manifest's value, where that is another one."""


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
