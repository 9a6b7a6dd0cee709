"""The JSON lines of the other commands, and of a command that failed, as types."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict  # pydantic reads that of `typing` from Python 3.12 on

from batchgen.jobs import State
from batchgen.report.run_events import Advice, LastRun, More, SettingValue, Summary


class Checked(Advice):
    """A manifest is valid: the line of `check`."""

    event: Literal["checked"]
    batch: str
    jobs: int
    models: dict[str, int]
    """How many jobs each model has."""
    warnings: list[str]
    """What may go wrong all the same."""


class PlannedModel(TypedDict):
    """The jobs of one model that would be sent, and what those with a known price cost."""

    model: str
    jobs: int
    unknown: int
    """How many have no known price."""
    lowest_usd: Decimal | None
    """Of one job."""
    highest_usd: Decimal | None
    cost_usd: Decimal | None


class PlannedPrompt(TypedDict):
    """A prompt as it would be sent, and the first job that has it."""

    job: str
    prompt: str


class WithinCap(TypedDict):
    """What would be sent under `max_cost`."""

    jobs: int
    cost_usd: Decimal


class Finish(TypedDict):
    """When all would be done: as likely before as after, and nine times out of ten before."""

    p50: datetime
    p90: datetime


class InTime(TypedDict):
    """How many jobs would be sent and done by `--until`, and what they cost as far as prices are known."""

    at: datetime
    jobs: int
    cost_usd: Decimal


class Planned(Advice):
    """What a run would do: the line of `plan` and of `run --dry-run`."""

    event: Literal["planned"]
    batch: str
    jobs: int
    new: int
    edited: int
    changed: list[str]
    """Jobs that were changed after they were sent: a run asks for `--changed`."""
    repeats: list[str]
    """Jobs that were paid for before, or have a video already: a run asks for `--changed`."""
    gone: int
    """Jobs that are no longer in the manifest."""
    states: dict[State, int]
    to_send: int
    not_selected: int
    prices: list[PlannedModel]
    prices_listed_at: datetime | None
    prices_live: bool
    """Whether the service lists these prices now."""
    first_prompts: list[PlannedPrompt]
    warnings: list[str]
    cost_usd: Decimal | None
    """Of the jobs to send, as far as prices are known; null where none is."""
    unknown: int
    """How many jobs to send have no known price."""
    by_charges: int
    """How many are expected to cost what was charged before, because the price list is lower or has no price."""
    spent_usd: Decimal
    reserved_usd: Decimal
    max_cost_usd: Decimal | None
    within_max_cost: WithinCap
    results_kept_seconds: float | None
    """How long the service keeps a finished file."""
    finish: Finish | None
    """Null where nothing would be sent and nothing is at the service."""
    until: InTime | None


class Model(TypedDict):
    """A model of the catalogue: a line of `models`."""

    event: Literal["model"]
    model: str
    types: list[str]
    endpoints: list[str]
    pricing: dict[str, Any] | None
    """Its entry in the service's price list."""
    retired: NotRequired[bool]
    parameters: NotRequired[list[str]]
    """Of the endpoint that is used by default: where more than one model may be meant."""
    schemas: NotRequired[dict[str, dict[str, Any]]]
    """The JSON Schema of the body by endpoint, of the one model that was named."""


class VerdictsImported(TypedDict):
    """Verdicts were brought into the job table: the line of `verdicts import`."""

    event: Literal["imported"]
    batch: str
    imported: int
    unchanged: int
    """Verdicts that are not newer than those in the table."""
    problems: list[str]
    jobs: dict[str, int]
    """How many jobs have each verdict by now."""


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
    """A request or a charge that does not agree: a line of `reconcile`."""

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


class Reconciled(Advice):
    """Whether the account was charged what it should be: the last line of `reconcile`."""

    event: Literal["reconciled"]
    batch: str
    transactions: int | None
    """Null where none was read, because this table has sent nothing with this account."""
    open: int
    """How many items do not agree."""
    closes: bool | None
    """Null where nothing was compared."""
    since: NotRequired[datetime]
    lists_charges: NotRequired[bool]
    """Whether the service lists what it charged."""
    unreadable: NotRequired[int]
    charged_usd: NotRequired[Decimal]
    balance_usd: NotRequired[Decimal | None]
    settlements: NotRequired[dict[str, dict[str, Any]]]
    """How many attempts or charges there are of each kind, and what they were charged."""
    collected: NotRequired[list[str]]
    """Jobs whose video was paid for and is fetched now."""


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
