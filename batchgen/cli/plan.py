"""`batchgen plan`: what a run would send, cost and take."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from batchgen import clock
from batchgen import plan as planning
from batchgen.cli.options import (
    db_option,
    is_there,
    json_option,
    limits_options,
    manifest_argument,
    place_of,
    simulate_option,
    terms_options,
    validate_option,
)
from batchgen.cli.session import batch_of_manifest, public_service, read_for, selection_of, with_limits
from batchgen.jobtable import pricelist
from batchgen.jobtable.database import Database
from batchgen.manifest import Manifest
from batchgen.plan import Asked
from batchgen.report.outlook import outlook_json, told


@click.command(name="plan")
@manifest_argument
@db_option
@simulate_option
@limits_options
@terms_options
@validate_option
@json_option
def command(manifest: Path, db: str | None, simulate: bool, validate: bool, as_json: bool, **wishes: Any) -> None:
    """Show what a run would send, what it would cost and when it would be done. Needs no key, sends no job.

    Prices are the service's own list where it can be had, else the last one that is known, with its date. The forecast
    plays the generation times that were measured through the limits in force.
    """
    show_plan(place_of(db, manifest), manifest, wishes, simulate=simulate, validate=validate, as_json=as_json)


def show_plan(
    place: str | Path, path: Path, wishes: Mapping[str, Any], *, simulate: bool, validate: bool, as_json: bool
) -> None:
    """Make the plan and print it. Without a job table an empty one is made, and thrown away."""
    with ExitStack() as stack:
        database = stack.enter_context(Database(place)) if is_there(place) else None
        manifest = read_for(path, database, simulate, validate)
        if database is None:
            database = stack.enter_context(Database(Path(stack.enter_context(TemporaryDirectory())) / "batchgen.db"))
        live, measured = asyncio.run(ask(database, manifest))
        limits = with_limits(manifest.limits, wishes)
        until, now = wishes["until"], clock.utcnow()
        asked = Asked(batch_of_manifest(manifest), manifest.jobs, limits, selection_of(wishes), until, measured)
        outlook = database.change(planning.foresee, asked, now)
    if as_json:
        click.echo(json.dumps(outlook_json(manifest.batch, outlook, limits, until, live), ensure_ascii=False))
        return
    for line in told(manifest.batch, outlook, limits, until, live, now):
        click.echo(line)


async def ask(database: Database, manifest: Manifest) -> tuple[bool, Mapping[str, float]]:
    """Whether the prices could be had live (they are kept), and the medians that the service measures."""
    models = sorted({job.model for job in manifest.jobs})
    last = await database.read(pricelist.known, manifest.service)
    async with public_service(manifest) as service:
        listing = await service.catalogue(last.etag)
        measured = await service.typical_seconds(models) if listing else {}
    if listing:
        await database.write(pricelist.keep, manifest.service, listing, clock.utcnow())
    return listing is not None, measured
