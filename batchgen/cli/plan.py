"""The command `batchgen plan`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from batchgen import api, clock
from batchgen.cli import options
from batchgen.cli.run_options import limits_of, run_options, selection_of
from batchgen.jobtable.database import Database
from batchgen.report.plan import plan_json, plan_lines
from batchgen.report.terminal import print_json


@options.manifest
@options.db
@options.simulate
@run_options
@options.validate
@options.json_lines
def command(manifest: Path, db: str | None, simulate: bool, validate: bool, as_json: bool, **typed: Any) -> None:
    """Needs no key, and sends no job.

    The prices are the service's price list if it can be reached, else the last one that was stored, with its date. The
    forecast takes the generation times that were measured and the limits in force.
    """
    show_plan(db, manifest, typed, simulate=simulate, validate=validate, as_json=as_json)


def show_plan(
    db: str | None, path: Path, typed: Mapping[str, Any], *, simulate: bool, validate: bool, as_json: bool
) -> None:
    """Make a plan and print it. Where there is no job table, an empty one is used for it and deleted."""
    location = options.table_location(db, path)
    with ExitStack() as stack:
        database = stack.enter_context(Database(location)) if options.table_exists(location) else None
        manifest = api.read_manifest(path, database, simulate=simulate, validate=validate)
        if database is None:
            folder = stack.enter_context(TemporaryDirectory())
            database = stack.enter_context(Database(Path(folder) / "batchgen.db"))
        manifest = replace(manifest, limits=limits_of(manifest.limits, typed))
        plan = asyncio.run(api.plan_run(database, manifest, selection_of(typed), typed["until"]))
    if as_json:
        print_json(plan_json(plan))
    else:
        click.echo("\n".join(plan_lines(plan, clock.utcnow())))
