"""What a person has set for a batch while runs are at work on it, over what each run has from its options and manifest.

The precedence is written here, and only here: a setting (`batchgen set`) goes before an option of a run, an option
before the manifest, the manifest before the default. A setting holds for the batch, in all its runs, until it is unset.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, select

from batchgen.catalogue.amounts import amount_text
from batchgen.catalogue.wording import suggestion
from batchgen.errors import UsageError
from batchgen.jobs import State
from batchgen.jobtable import commands, settings
from batchgen.jobtable.kinds import LimitKind, SettingName
from batchgen.jobtable.rows import may_be_charged
from batchgen.jobtable.schema import batches, runs
from batchgen.jobtable.settings import Setting
from batchgen.limits import rate
from batchgen.limits.rate import LimitKey
from batchgen.manifest.header import read_limit
from batchgen.manifest.limits import NAMES, Limits

STEERED_LIMITS = (
    *(SettingName.IN_FLIGHT, SettingName.SUBMITS_PER_MINUTE, SettingName.POLLS_PER_MINUTE, SettingName.DOWNLOADS),
    SettingName.MAX_COST,
)
"""The limits of the manifest that may be set while a run is at work."""
STEERED = (*STEERED_LIMITS, SettingName.UNTIL)
"""All that `batchgen set` takes."""
RATES = {SettingName.SUBMITS_PER_MINUTE: LimitKind.SUBMITS, SettingName.POLLS_PER_MINUTE: LimitKind.POLLS}


@dataclass(frozen=True, slots=True)
class Steering:
    """The settings of a batch that are in force."""

    version: int = 0
    """The id of the newest row: it grows with each change."""
    pause: Setting | None = None
    """Set while nothing is to be submitted."""
    manifest: int = 0
    """The id of the row of the manifest, as it was last enrolled."""
    prioritized: int = 0
    """The id of the last row that changed the order of the jobs."""
    rows: Mapping[SettingName, Setting] = field(default_factory=dict)
    values: Mapping[SettingName, Any] = field(default_factory=dict)

    def limits(self, own: Limits) -> Limits:
        """The limits in force, for a run that has `own` from its options and manifest."""
        changes = {str(name): self.values[name] for name in STEERED_LIMITS if name in self.values}
        return replace(own, **changes) if changes else own

    def until(self, own: datetime | None) -> datetime | None:
        """The time in force by which the last generation has to end, likewise."""
        until: datetime | None = self.values.get(SettingName.UNTIL, own)
        return until


def read_steering(connection: Connection, batch_id: int) -> Steering:
    """The settings of a batch that are in force now. Raises `UsageError` for one that cannot be read."""
    current = settings.current(connection, batch_id)
    rows = {setting.name: setting for setting in current if setting.value is not None}
    ids = {name: setting.id for name, setting in rows.items()}
    return Steering(
        version=max((setting.id for setting in current), default=0),
        pause=rows.get(SettingName.PAUSED),
        manifest=ids.get(SettingName.MANIFEST, 0),
        prioritized=ids.get(SettingName.PRIORITIZED, 0),
        rows=rows,
        values={name: read_value(name, row.value or "") for name, row in rows.items() if name in STEERED},
    )


def steering_of(connection: Connection, batch: str) -> Steering:
    """The settings in force of a batch by its name; none where it was never run."""
    batch_id = connection.execute(select(batches.c.id).where(batches.c.name == batch)).scalar()
    return Steering() if batch_id is None else read_steering(connection, batch_id)


@dataclass(frozen=True, slots=True)
class EnrolledManifest:
    """What a manifest says beyond its jobs, as it was last enrolled: a worker does not have the manifest."""

    limits: Limits = field(default_factory=Limits)
    orphans: frozenset[str] = frozenset()
    """Jobs that were sent and are no longer in the manifest: what they paid for is not bought again."""
    edited: frozenset[str] = frozenset()
    """Those of them that stand in the manifest, with another request."""

    def __str__(self) -> str:
        """It as JSON for a row: the limits that are not the defaults, the orphans, and which were edited."""
        own, defaults = asdict(self.limits), asdict(Limits())
        changed = {name: setting_text(value) for name, value in own.items() if value != defaults[name]}
        edited = {"edited": sorted(self.edited)} if self.edited else {}
        return json.dumps({"limits": changed, "orphans": sorted(self.orphans), **edited})


def read_enrolled(steering: Steering) -> EnrolledManifest:
    """What the manifest says, from its row. Raises `UsageError` for one that somebody else has written."""
    row = steering.rows.get(SettingName.MANIFEST)
    try:
        document = json.loads(row.value or "{}") if row else {}
        limits = {name: read_limit(name, text) for name, text in document.get("limits", {}).items()}
        keys = (frozenset(map(str, document.get(name, ()))) for name in ("orphans", "edited"))
        return EnrolledManifest(Limits(**limits), *keys)
    except (ValueError, AttributeError, TypeError) as error:
        raise UsageError(f"what the job table keeps of the manifest cannot be read: {error}") from error


def orphans_of(connection: Connection, batch_id: int) -> frozenset[str]:
    """The jobs that were sent, and whose request the manifest does not ask for any more, by their keys."""
    return read_enrolled(read_steering(connection, batch_id)).orphans


def outdated_failures(connection: Connection, batch_id: int) -> int:
    """How many failed jobs a retry leaves alone: they cost nothing, and the manifest does not ask for them any more."""
    rows = commands.rows_of(connection, batch_id, orphans_of(connection, batch_id))
    return sum(row.state == State.FAILED and not may_be_charged(row) for row in rows)


def deadline_after(connection: Connection, batch_id: int, now: datetime) -> datetime:
    """Until when a run waits for a generation that is taken up at `now`, by the manifest as last enrolled."""
    return read_enrolled(read_steering(connection, batch_id)).limits.deadline_at(now)


def read_value(name: str, text: str) -> Any:
    """The value of a setting from its text. Raises `UsageError` in the words that a manifest's limit gets."""
    if name not in STEERED:
        if name in NAMES:
            raise UsageError(f"`{name}` cannot be set while a run is at work: write it in the manifest")
        raise UsageError(f"there is no setting `{name[:100]}`; {suggestion(name, STEERED)}")
    if name != SettingName.UNTIL:
        return read_limit(name, text)
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        raise UsageError(f"`until` must be a time such as 08:00 or 2026-03-01T08:00, not {text[:60]!r}") from None


def setting_text(value: Any) -> str:
    """A value as a row keeps it: the same text gives the same value again."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, Decimal):
        return amount_text(value)
    return f"{value:.15g}" if isinstance(value, float) else str(value)


def change(
    connection: Connection, batch_id: int, service: str, changes: Mapping[SettingName, Any], now: datetime, by: str
) -> Steering:
    """Make settings; a value of None gives back what each run has from its options and manifest.

    A setting that is as it was gets no new row.
    """
    before = read_steering(connection, batch_id)
    for name, value in changes.items():
        if before.values.get(name) != value:
            settings.record(connection, batch_id, name, None if value is None else setting_text(value), now, by)
    for name, kind in RATES.items():
        if isinstance(changes.get(name), float):
            rate.shorten_wait(connection, LimitKey(service, kind), changes[name], now)
    return read_steering(connection, batch_id)


def pause(connection: Connection, batch_id: int, now: datetime, by: str) -> tuple[Setting, bool]:
    """Let no run of the batch submit anything more. Returns the setting, and whether it is new."""
    before = read_steering(connection, batch_id).pause
    if before is None:
        settings.record(connection, batch_id, SettingName.PAUSED, "true", now, by)
    after = read_steering(connection, batch_id).pause
    assert after
    return after, before is None


def resume(connection: Connection, batch_id: int, now: datetime, by: str) -> Setting | None:
    """End the pause of a batch. Returns the setting that it ends; None where the batch is not paused."""
    before = read_steering(connection, batch_id).pause
    if before:
        settings.record(connection, batch_id, SettingName.PAUSED, None, now, by)
    return before


class Source(StrEnum):
    """Where a value comes from, the strongest first."""

    SETTING = "setting"  #: `batchgen set`
    OPTION = "option"  #: an option of a run that is at work
    MANIFEST = "manifest"
    DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class ValueInForce:
    """One value that is in force. `value` is None where there is no such limit."""

    name: SettingName
    value: str | None
    source: Source
    set_at: datetime | None = None
    set_by: str | None = None
    run: str | None = None
    """The run that has the option, by machine and process id."""
    manifest: str | None = None
    """The value of the manifest, where that is another one."""


@dataclass(frozen=True, slots=True)
class InForce:
    """What governs a batch now."""

    pause: Setting | None
    values: list[ValueInForce]

    @property
    def set_values(self) -> list[ValueInForce]:
        """Those that a person has set."""
        return [value for value in self.values if value.source is Source.SETTING]


def read_in_force(connection: Connection, batch_id: int, run_ids: Collection[str] = ()) -> InForce:
    """What is in force for a batch. `run_ids` are the runs at work on it, of which each may have options."""
    steering = read_steering(connection, batch_id)
    manifest = read_enrolled(steering).limits
    of_runs = connection.execute(select(runs.c.host, runs.c.pid, runs.c.limits).where(runs.c.id.in_(run_ids))).all()
    typed = [(f"{row.host}, process {row.pid}", json.loads(row.limits)) for row in of_runs if row.limits]
    values: list[ValueInForce] = []
    for name in STEERED:
        own = getattr(manifest, name, None)
        own_text = None if own is None else setting_text(own)
        if setting := steering.rows.get(name):
            other = own_text if own_text != setting.value else None
            by = (setting.set_at, setting.set_by)
            values.append(ValueInForce(name, setting.value, Source.SETTING, *by, manifest=other))
            continue
        options = [(run, limits[name]) for run, limits in typed if name in limits]
        values += [ValueInForce(name, text, Source.OPTION, run=run, manifest=own_text) for run, text in options]
        if len(options) < max(len(of_runs), 1):
            is_default = own == getattr(Limits(), name, None)
            values.append(ValueInForce(name, own_text, Source.DEFAULT if is_default else Source.MANIFEST))
    return InForce(steering.pause, values)
