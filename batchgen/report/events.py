"""The JSON lines that commands write with `--json`, as types. `event_schema.py` makes the JSON Schema of them.

A line is one of the types in `Event`; its `event` says which. Names and meanings stay; lines may gain fields.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import (
    Any,
    Literal,
    NotRequired,  # pydantic reads the one of `typing` from Python 3.12 on
)

from typing_extensions import TypedDict

from batchgen.jobs import State


class Advice(TypedDict):
    """What a person or a program can do."""

    hint: str
    """What to do, in words; "" where there is nothing to do."""
    next: str | None
    """The command to type, where there is one."""


class Wait(Advice):
    """What some jobs wait for."""

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


FOR = TypedDict("FOR", {"for": str})
FROM_TO = TypedDict("FROM_TO", {"from": State | None, "to": State})


class WaitFor(Wait, FOR):
    """What some jobs wait for, in words."""


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


class Failures(TypedDict):
    """Why jobs are not delivered."""

    failed: dict[str, int]
    """How many jobs failed, by the class of the error."""
    hooks_failed: int
    """Commands of `--exec` that failed in this run."""


class Done(Summary, More, Failures, Advice):
    """How a run ended: its last line."""

    event: Literal["done"]
    exit_code: int
    message: str


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


class Status(Summary, More, Advice):
    """How a batch stands: the line of `status`."""

    event: Literal["status"]
    runs: int
    """Runs that are at work."""
    last_run: LastRun | None
    moved_to: str | None
    """The job table to which the batch was moved, or is being moved."""
    paused_at: datetime | None
    """Since when nothing is sent; null where the batch is not paused."""
    settings: list[SettingValue]
    """What a person has set, which goes before options and manifest."""


class Changed(Advice):
    """What `retry`, `cancel` or `resolve` has changed, as job ids by what happens to them."""

    event: Literal["changed"]
    command: str
    jobs: dict[str, list[str]]


class Settings(Advice):
    """What governs a batch: the line of `set`, `pause` and `resume`, and of a run for which a person has set values."""

    event: Literal["settings"]
    batch: str
    paused_at: datetime | None
    """Since when nothing is sent; null where the batch is not paused."""
    paused_by: str | None
    settings: list[SettingValue]
    runs: int
    """Runs that are at work."""


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


class HeldJob(TypedDict):
    """What a person needs to find a lost request at the service."""

    id: str
    model: str
    sent_at: datetime
    client_request_id: str
    error: str | None


class Held(Advice):
    """The jobs that are held for a person: `resolve` without an option."""

    event: Literal["held"]
    jobs: list[HeldJob]


class ProblemAt(TypedDict):
    """One thing that is wrong in a manifest; line and column count from 1."""

    message: str
    path: str
    line: int
    column: int
    hint: str


class Discrepancy(Advice):
    """A request or a charge that does not close: a line of `reconcile`."""

    event: Literal["discrepancy"]
    settlement: str
    at: datetime
    id: str | None
    attempt: int | None
    state: str | None
    generation_id: str | None
    model: str | None
    charged_usd: Decimal | None
    expected_usd: Decimal | None
    note: str


class Reconciliation(TypedDict, total=False):
    """What a comparison has where there was something to compare."""

    since: datetime
    lists_charges: bool
    """Whether the service lists what it charged."""
    unreadable: int
    charged_usd: Decimal
    balance_usd: Decimal | None
    settlements: dict[str, dict[str, Any]]
    """How many attempts or charges there are of each kind, and what they were charged."""
    collected: list[str]
    """Jobs whose video was paid for and is fetched now."""


class Reconciled(Reconciliation):
    """Whether the account was charged what it should be: the last line of `reconcile`."""

    event: Literal["reconciled"]
    batch: str
    transactions: int
    open: int
    """What does not close."""
    closes: bool


class Examined(Advice):
    """What `doctor` or `db check` says of one check.

    `exit_code` is how a run would end for it, `next` the command that mends it.
    """

    event: Literal["finding"]
    check: str
    ok: bool
    message: str
    exit_code: int


class TableDigest(TypedDict):
    """What was copied of a table."""

    rows: int
    sha256: str
    """Over one JSON list a row, in the order of the table's key."""


class Copied(Advice):
    """Batches were moved to another job table: the line of `db copy`."""

    event: Literal["copied"]
    batches: list[str]
    place: str
    """The path or URL of the other table, without a password."""
    tables: dict[str, TableDigest]
    """Empty where an earlier command had copied the rows already."""


class GivenBack(Advice):
    """A copy was given up, and the batches run where they were: the line of `db copy --abort`."""

    event: Literal["given_back"]
    batches: list[str]


class Error(Advice):
    """Why a command failed: the last line, whichever command it is."""

    event: Literal["error"]
    exit_code: int
    message: str
    problems: list[ProblemAt]
    """All that is wrong in a manifest."""


Event = (
    Enrolled
    | Warned
    | Elsewhere
    | Moved
    | Waiting
    | Notice
    | Hooked
    | NotificationFailed
    | Done
    | Status
    | Changed
    | Held
    | Settings
    | Steered
    | Worked
    | Discrepancy
    | Reconciled
    | Examined
    | Copied
    | GivenBack
    | Error
)
