"""What several of the JSON lines of `--json` have in common, as types."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

from typing_extensions import TypedDict

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
