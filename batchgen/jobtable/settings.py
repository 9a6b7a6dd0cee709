"""What governs a batch while runs are at work on it: the settings of a person, and the commands that runs notice.

A setting is a row that stays: a newer one replaces it, so that the table has the whole history. A run reads the current
ones in the transaction that claims, and several times in two seconds besides (`limits/steering.py`).
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import Any

from sqlalchemy import Connection, Select, bindparam, func, insert, select, text, update

from batchgen.files.liveness import host_name
from batchgen.jobtable.joins import SETTING_IS_CURRENT
from batchgen.jobtable.kinds import SettingName
from batchgen.jobtable.rows import chunks_of
from batchgen.jobtable.schema import batches, jobs, settings


@dataclass(frozen=True, slots=True)
class Setting:
    """One row: a value of a person, or a command. An empty value gives back what the run itself has."""

    id: int
    name: SettingName
    value: str | None
    set_at: datetime
    set_by: str


def current(connection: Connection, batch_id: int) -> list[Setting]:
    """The settings of a batch that are not replaced, in the order in which they were made."""
    return sorted(read(connection, CURRENT, {"in_batch": batch_id}), key=attrgetter("id"))


def since(connection: Connection, batch_id: int, after: int) -> list[Setting]:
    """All settings that were made after the row `after`, replaced ones included."""
    return read(connection, SINCE, {"in_batch": batch_id, "after": after})


def newest(connection: Connection, batch_id: int) -> int:
    """The id of the newest row of a batch; 0 where there is none."""
    return max((setting.id for setting in current(connection, batch_id)), default=0)


def record(connection: Connection, batch_id: int, name: SettingName, value: str | None, now: datetime, by: str) -> None:
    """Make a setting, and replace the one before it."""
    before = update(settings).where(_of_batch, settings.c.name == name, text(SETTING_IS_CURRENT))
    connection.execute(before.values(replaced_at=now), {"in_batch": batch_id})
    row = {"batch_id": batch_id, "name": name, "value": value, "set_at": now, "set_by": by}
    connection.execute(insert(settings).values(row))


def record_manifest(
    connection: Connection, batch_id: int, manifest: str, now: datetime, by: str, *, has_changes: bool = False
) -> None:
    """Keep what the manifest says beyond its jobs (JSON), for workers. The same again changes nothing.

    With `has_changes`, jobs are new or edited: a new row shows it to runs that are at work.
    """
    stored = {setting.name: setting.value for setting in current(connection, batch_id)}
    if has_changes or stored.get(SettingName.MANIFEST) != manifest:
        record(connection, batch_id, SettingName.MANIFEST, manifest, now, by)


def record_comparison(connection: Connection, batch_id: int, at: datetime | None) -> None:
    """All pending jobs of a batch were compared with the service's log as it was at this time; None: not all were."""
    connection.execute(update(batches).where(batches.c.id == batch_id).values(compared_at=at))


def compare_again(connection: Connection, batch_id: int, now: datetime) -> None:
    """Jobs are to be sent that may never have been compared with the service's log: every run compares them first.

    A new row of the manifest, with the same value, shows that to runs that are at work.
    """
    record_comparison(connection, batch_id, None)
    for setting in current(connection, batch_id):
        if setting.name is SettingName.MANIFEST:
            record(connection, batch_id, SettingName.MANIFEST, setting.value, now, person())


def compare_all_again(connection: Connection, now: datetime) -> None:
    """The same for every batch."""
    for batch_id in connection.execute(select(batches.c.id)).scalars().all():
        compare_again(connection, batch_id, now)


def prioritize(
    connection: Connection, batch_id: int, groups: Sequence[Sequence[str]], message: str, now: datetime, by: str
) -> None:
    """Send these jobs before all others, the first group first; those of one group in the manifest's order."""
    of_batch = jobs.c.batch_id == batch_id
    highest = connection.execute(select(func.coalesce(func.max(jobs.c.rank), 0)).where(of_batch)).scalar_one()
    for rank, keys in enumerate(reversed(groups), highest + 1):
        for chunk in chunks_of(keys):
            connection.execute(update(jobs).where(of_batch, jobs.c.key.in_(chunk)).values(rank=rank))
    record(connection, batch_id, SettingName.PRIORITIZED, message, now, by)


def person() -> str:
    """Who gives a command, and on which machine: anna@studio."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container's user may have no name
        user = f"user-{os.getuid()}" if hasattr(os, "getuid") else "somebody"
    return f"{user}@{host_name()}"


def read(connection: Connection, statement: Select[Any], params: Mapping[str, Any]) -> list[Setting]:
    return [Setting(*row) for row in connection.execute(statement, params)]


_columns = (settings.c.id, settings.c.name, settings.c.value, settings.c.set_at, settings.c.set_by)
_of_batch = settings.c.batch_id == bindparam("in_batch")
CURRENT = select(*_columns).where(_of_batch, text(SETTING_IS_CURRENT))
SINCE = select(*_columns).where(settings.c.id > bindparam("after"), _of_batch).order_by(settings.c.id)
