"""What a run says before its first request: warnings, changes of the manifest, what a person has set."""

from __future__ import annotations

from collections.abc import Sequence

from batchgen import clock
from batchgen.api.opening import OpenRun
from batchgen.catalogue.wording import plural
from batchgen.cli import options
from batchgen.context import RunSpec
from batchgen.jobtable.blockers import Blocker
from batchgen.limits.in_force import read_in_force
from batchgen.report import hints
from batchgen.report.formats import counts
from batchgen.report.run_events import Elsewhere, Enrolled, Warned
from batchgen.report.settings import in_force_lines, settings_json
from batchgen.report.terminal import print_json, print_lines
from batchgen.report.words import blocker_hint, blocker_line


def announce_warnings(warnings: Sequence[str], as_json: bool) -> None:
    """Say what may go wrong although the manifest is valid, before anything is sent."""
    for warning in warnings:
        if as_json:
            print_json(Warned(event="warning", message=warning))
        else:
            print_lines(f"warning: {warning}", err=True)


def announce(spec: RunSpec, as_json: bool) -> None:
    """Say what the manifest has changed in the job table."""
    batch, synced = spec.batch, spec.synced
    if as_json:
        enrolled: Enrolled = {
            "event": "enrolled",
            "batch": batch.name,
            "new": synced.new,
            "edited": synced.edited,
            "gone": synced.gone,
            "redone": synced.redone,
            "unchanged": synced.unchanged,
            "changed": [change.key for change in synced.changed],
        }
        print_json(enrolled, is_progress=True)
        return
    changes = counts(
        [
            ("new", synced.new),
            ("edited", synced.edited),
            ("no longer in the manifest and cancelled", synced.gone),
            ("changed after they were sent: to be made again", synced.redone),
            ("changed after they were sent: kept as they are", len(synced.changed) - synced.redone),
        ]
    )
    print_lines(f"{batch.name}: {plural(spec.jobs, 'job')}{f' ({changes})' if changes else ''}", err=True)


def announce_elsewhere(blockers: list[Blocker], as_json: bool) -> None:
    """Say which jobs were sent to another address: the run does not ask for them."""
    for blocker in blockers:
        if as_json:
            advice = hints.advice(blocker_hint(blocker)[0])
            elsewhere = Elsewhere(event="elsewhere", jobs=blocker.jobs, origin=blocker.origin or "", **advice)
            print_json(elsewhere, is_progress=True)
        else:
            print_lines(blocker_line(blocker, clock.utcnow()), err=True)


def announce_settings(opened: OpenRun, as_json: bool) -> None:
    """Say what a person has set for the batch: it goes before the options and the manifest of this run."""
    database, batch_id, now = opened.database, opened.spec.synced.batch_id, clock.utcnow()
    in_force = database.read_now(read_in_force, batch_id)
    if not (in_force.pause or in_force.set_values):
        return
    if as_json:
        hint = f"settings go before options and manifest until `{options.command_to_type('set')} --unset NAME`"
        print_json(settings_json(opened.spec.batch.name, in_force, 0, hint, None), is_progress=True)
        return
    lines = in_force_lines(in_force, now, options.command_to_type, only_set=True)
    if in_force.set_values:
        lines.append(
            f"What is set goes before options and manifest; `{options.command_to_type('set')} --unset NAME` ends it"
        )
    print_lines(*lines, err=True)
