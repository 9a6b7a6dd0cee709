"""What the commands have in common: a manifest read, a database opened, a service to talk to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path

from sqlalchemy import Connection, select

from batchgen.cli.options import place_of
from batchgen.database import Database
from batchgen.errors import UsageError
from batchgen.jobs import State
from batchgen.jobtable import orders
from batchgen.manifest import Manifest
from batchgen.schema import batches
from batchgen.service.base import Service
from batchgen.service.settings import Settings

SIMULATED = "simulated"
SIMULATED_SPEED = 120.0  # times real speed: a clip of 3 to 4 minutes takes 2 seconds


def simulated(manifest: Manifest) -> Manifest:
    """The same jobs for the simulator, in a batch and a folder of their own: nothing real is touched."""
    if manifest.service == "simulator":
        return manifest
    jobs = [replace(job, output=f"{SIMULATED}/{job.output}") for job in manifest.jobs]
    return replace(manifest, batch=f"{manifest.batch}-{SIMULATED}", service="simulator", jobs=jobs)


def batches_of(connection: Connection, manifest: Path | None) -> list[tuple[int, str, str]]:
    """The batches (id, name, service) that a manifest has in this database; all of them without one."""
    asked = select(batches.c.id, batches.c.name, batches.c.service).order_by(batches.c.id)
    if manifest is not None:
        asked = asked.where(batches.c.manifest_path == str(manifest.absolute()))
    return [(row.id, row.name, row.service) for row in connection.execute(asked)]


@contextmanager
def table_of(db: str | None, manifest: Path) -> Iterator[Database]:
    """The job table of a manifest that was run before. Raises `UsageError` where there is none."""
    place = place_of(db, manifest)
    if "://" not in str(place) and not Path(place).exists():
        raise UsageError(f"{place}: no job table yet; `batchgen run {manifest}` makes it")
    with Database(place) as database:
        yield database


def batch_of(database: Database, manifest: Path, simulate: bool) -> int:
    """The id of a manifest's batch, for commands that change it. Raises `UsageError` where it was never run."""
    found = database.look(batches_of, manifest)
    chosen = [batch for batch in found if (batch[2] == "simulator") == simulate] or found
    if not chosen:
        raise UsageError(
            f"{manifest}: not in this job table ({database.url.database}); `batchgen run {manifest}` first"
        )
    return chosen[0][0]


@asynccontextmanager
async def service_of(database: Database, settings: Settings | None, folder: Path) -> AsyncIterator[Service]:
    """The service, ready to be called; without settings, the simulator, started here and stopped at the end.

    What was simulated is kept beside the job table; in the manifest's `folder` where that is no file.
    """
    from batchgen.service.aimlapi import AimlApi

    if settings is not None:
        service = AimlApi(settings.base_url, settings.key)
        try:
            yield service
        finally:
            await service.close()
        return
    from batchgen.simulator import Simulation, serve

    table = database.path or folder / "batchgen.db"
    ledger = table.with_name(f"{table.name}.simulator")
    async with serve(Simulation(ledger=ledger, speed=SIMULATED_SPEED)) as base_url:
        service = AimlApi(base_url, "simulated", name="simulator")
        try:
            yield service
        finally:
            await service.close()


def chosen_keys(
    database: Database, batch_id: int, ids: Sequence[str], *, default: set[State], allowed: set[State]
) -> list[str]:
    """The jobs that a command is about: those named, or all in the `default` states.

    Raises `UsageError` for a name that is not in the batch or a job that is in no `allowed` state.
    """
    if not ids:
        return database.look(orders.keys_in, batch_id, default)
    states = database.look(orders.states_of, batch_id, ids)
    wrong = [f"{key}: not in this batch" for key in ids if key not in states]
    wrong += [f"{key}: is {state}" for key, state in states.items() if state not in allowed]
    if wrong:
        raise UsageError(
            "\n".join(wrong) + f"\nOnly jobs that are {' or '.join(sorted(allowed))} can be; nothing changed."
        )
    return list(ids)
