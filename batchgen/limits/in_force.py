"""What is in force for a batch, and where each value comes from: for `batchgen set`, `status` and a new run."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import Connection, select

from batchgen.jobtable.kinds import SettingName
from batchgen.jobtable.schema import runs
from batchgen.jobtable.settings import Setting
from batchgen.limits.steering import STEERED, read_enrolled, read_steering, setting_text
from batchgen.manifest.limits import Limits


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
