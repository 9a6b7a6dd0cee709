"""Functions that `set`, `pause`, `resume` and others share: they steer a batch while runs are at work on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import click

from batchgen import clock
from batchgen.advice.command_line import with_ids
from batchgen.catalogue.wording import plural
from batchgen.cli import options
from batchgen.jobtable import leases, settings
from batchgen.jobtable.batches import StoredBatch
from batchgen.jobtable.database import Database
from batchgen.jobtable.kinds import SettingName
from batchgen.limits.steering import InForce, read_in_force
from batchgen.report import hints
from batchgen.report.command_events import Changed, Settings
from batchgen.report.settings import runs_line, settings_json
from batchgen.report.terminal import show


def show_change(database: Database, batch: StoredBatch, line: str, *, as_json: bool) -> None:
    """Print what a command has changed, and who acts on it."""
    runs = leases.live_runs(database, batch.id)
    in_force = database.read_now(read_in_force, batch.id, runs)
    show(in_force_json(batch, in_force, len(runs)), line, notes=[runs_line(len(runs))], as_json=as_json)


def in_force_json(batch: StoredBatch, in_force: InForce, runs: int) -> Settings:
    """The event with the values in force, for so many runs at work; of a paused batch, its hint is to resume."""
    hint, command = ("resume the batch", options.command_to_type("resume")) if in_force.pause else ("", None)
    return settings_json(batch.name, in_force, runs, hint, command)


def notify_runs(database: Database, batch_id: int, command: SettingName, number: int) -> int:
    """Let the runs at work notice that a command has changed so many jobs. Returns how many runs there are."""
    if not number:
        return 0
    database.write_now(settings.record, batch_id, command, plural(number, "job"), clock.utcnow(), settings.person())
    return len(leases.live_runs(database, batch_id))


def show_jobs(
    jobs: Mapping[str, Sequence[str]],
    *lines: str,
    hint: str,
    next_command: str,
    keys: Sequence[str] = (),
    notes: Sequence[str],
    as_json: bool,
) -> None:
    """Print the event `changed` for a program, or `lines` for a person.

    The event has the ids of the jobs by what happens to them. Where a job has changed, it has `next_command` on `keys`,
    too, and a person sees `notes` on standard error.
    """
    command, ids = click.get_current_context().info_name or "", {name: list(keys) for name, keys in jobs.items()}
    is_changed = any(jobs.values())
    advice = hints.advice(hint, with_ids(options.command_to_type(next_command), keys) if is_changed else None)
    event = Changed(event="changed", command=command, jobs=ids, **advice)
    show(event, *lines, notes=notes if is_changed else (), as_json=as_json)


def goes_on_line(runs: int) -> str:
    """Who works on the jobs that a command has changed: the runs at work, or the next run."""
    return runs_line(runs) if runs else f"Next: {options.quoted_command('run')}"
