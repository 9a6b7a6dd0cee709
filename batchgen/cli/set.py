"""The command `batchgen set`."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import click

from batchgen import clock
from batchgen.catalogue.amounts import amount_text
from batchgen.cli import options
from batchgen.cli.batches import open_batch
from batchgen.cli.steering import in_force_json
from batchgen.errors import UsageError
from batchgen.jobtable import leases, ledger
from batchgen.jobtable.kinds import SettingName
from batchgen.jobtable.settings import person
from batchgen.limits import steering
from batchgen.limits.steering import InForce, read_in_force
from batchgen.manifest.key_errors import NO_LIMIT
from batchgen.report.settings import in_force_lines, runs_line
from batchgen.report.terminal import show

NAMES = ", ".join(steering.STEERED)
UNREACHED: dict[str, str] = {SettingName.MAX_COST: "1000000000", SettingName.UNTIL: "2099-01-01"}
"""Values that no batch reaches, to type in place of "no limit"."""


@options.manifest
@click.argument("assignments", nargs=-1, metavar="[NAME=VALUE]...")
@options.batch_table
def command(manifest: Path, assignments: tuple[str, ...], db: str | None, simulate: bool, as_json: bool) -> None:
    """NAME is in_flight, submits_per_minute, polls_per_minute, downloads, max_cost or until. Without any, shows what is
    in force and where each value comes from.

    A value that is set goes before the options of `batchgen run`, and those before the manifest. It holds for this
    batch, in all its runs, until NAME= goes back to them. Values are those of the manifest's `limits:`, `auto`
    included; `until` is a time such as 08:00.
    """
    changes = read_changes(assignments)
    with open_batch(db, manifest, simulate, steers=True) as (database, batch):
        now = clock.utcnow()
        if changes:
            database.write_now(steering.change, batch.id, batch.service, changes, now, person())
        runs = leases.live_runs(database, batch.id)
        in_force = database.read_now(read_in_force, batch.id, runs)
        totals = database.read_now(ledger.totals, batch.id)
    event, notes = in_force_json(batch, in_force, len(runs)), []
    if changes:
        in_force = InForce(None, [value for value in in_force.values if value.name in changes])
        notes.append(runs_line(len(runs)))
        cap, committed = changes.get(SettingName.MAX_COST), amount_text(totals.committed)
        if cap is not None and cap <= totals.committed:
            notes.append(f"{committed} USD is spent or reserved: nothing more is sent until max_cost is raised")
    show(event, *in_force_lines(in_force, now, options.command_to_type), notes=notes, as_json=as_json)


def read_changes(assignments: tuple[str, ...]) -> dict[SettingName, Any]:
    """The values to set by name; None for one that is to be unset. Raises `UsageError` before anything is changed."""
    changes: dict[SettingName, Any] = {}
    for assignment in assignments:
        name, sign, text = assignment.partition("=")
        name, text = name.strip().replace("-", "_"), text.strip()
        if not sign:
            raise UsageError(f"{assignment[:100]!r} is no assignment: write NAME=VALUE, such as in_flight=20")
        value = None
        if text.lower() in NO_LIMIT and (unreached := UNREACHED.get(name)):
            back = f"{name}= goes back to what the options and the manifest say"
            raise UsageError(f"`{name}` is lifted by a value that is not reached: {name}={unreached}; {back}")
        if text:
            value = read_moment(text) if name == SettingName.UNTIL else steering.read_value(name, text)
        elif name not in steering.STEERED:
            steering.read_value(name, text)  # raises `UsageError` for the unknown name
        if name in changes:
            raise UsageError(f"`{name}` is there twice")
        changes[SettingName(name)] = value
    return changes


def read_moment(text: str) -> datetime:
    """The value of `until`. Raises `UsageError`."""
    try:
        return options.moment(text)
    except click.BadParameter as error:
        raise UsageError(f"`until`: {error.message}") from None
