"""What the commands have in common: a manifest read, a database opened, a service to talk to."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, select

from batchgen.cli.options import again, is_there, place_of
from batchgen.errors import UsageError
from batchgen.jobs import State
from batchgen.jobtable import commands, sync
from batchgen.jobtable.database import Database
from batchgen.jobtable.schema import batches
from batchgen.jobtable.selection import Selection
from batchgen.jobtable.sync import Batch
from batchgen.services.base import Service
from batchgen.services.settings import Settings, read_base_url

if TYPE_CHECKING:
    from batchgen.manifest import Limits, Manifest

GIVEN_LIMITS = ("submits_per_minute", "in_flight", "downloads", "max_cost")
SIMULATED = "simulated"
SIMULATED_SPEED = 120.0  # times real speed: a clip of 3 to 4 minutes takes 2 seconds


def simulated(manifest: Manifest) -> Manifest:
    """The same jobs for the simulator, in a batch and a folder of their own: nothing real is touched."""
    if manifest.service == "simulator":
        return manifest
    jobs = [replace(job, output=f"{SIMULATED}/{job.output}") for job in manifest.jobs]
    return replace(manifest, batch=f"{manifest.batch}-{SIMULATED}", service="simulator", jobs=jobs)


def read_for(path: Path, database: Database | None, simulate: bool, validate: bool) -> Manifest:
    """Read the manifest for the service that it is to be run with. Raises ManifestInvalid.

    A job that `database` says was sent already needs its local images no more.
    """
    from batchgen.manifest import read

    def sent_keys(batch: str) -> Collection[str]:
        name = f"{batch}-{SIMULATED}" if simulate else batch
        return database.look(sync.sent_keys, name) if database else ()

    manifest = read(path, validate=validate, settled=sent_keys)
    return simulated(manifest) if simulate else manifest


def batch_of_manifest(manifest: Manifest) -> Batch:
    """The manifest's identity in the job table."""
    return Batch(manifest.batch, manifest.service, manifest.path.absolute(), manifest.sha256)


def with_limits(limits: Limits, wishes: Mapping[str, Any]) -> Limits:
    """The limits, but for those that were given on the command line."""
    given = {name: wishes[name] for name in GIVEN_LIMITS if wishes[name] is not None}
    return replace(limits, **given)


def selection_of(wishes: Mapping[str, Any]) -> Selection:
    """The jobs that were chosen on the command line."""
    return Selection(wishes["only"], wishes["where"], wishes["sample"], wishes["limit"])


@dataclass(frozen=True, slots=True)
class Known:
    """A batch in a job table."""

    id: int
    name: str
    service: str
    manifest: Path


def batches_of(connection: Connection, manifest: Path | None) -> list[Known]:
    """The batches that a manifest has in this database; all of them without one."""
    asked = select(batches.c.id, batches.c.name, batches.c.service, batches.c.manifest_path).order_by(batches.c.id)
    found = [Known(row.id, row.name, row.service, Path(row.manifest_path)) for row in connection.execute(asked)]
    return [batch for batch in found if manifest is None or is_from(batch, manifest)]


def is_from(batch: Known, manifest: Path) -> bool:
    """Whether a batch was made from this manifest, by whatever path, even if its folder has been moved since."""
    if batch.manifest.exists() and manifest.exists():
        return batch.manifest.samefile(manifest)
    return batch.manifest == whole(manifest) or (not batch.manifest.exists() and batch.manifest.name == manifest.name)


def whole(path: Path) -> Path:
    """An absolute path without dots; links in it stay."""
    return Path(os.path.normpath(path.absolute()))


@contextmanager
def table_of(db: str | None, manifest: Path | None) -> Iterator[Database]:
    """The job table of a manifest that was run before. Raises `UsageError` where there is none."""
    place = place_of(db, manifest or Path("batchgen.db"))
    if not is_there(place):
        gone = f"{manifest}: there is no such manifest\n" if manifest and not manifest.exists() else ""
        raise UsageError(f"{gone}{place}: there is no job table yet; {again('run')} makes it")
    with Database(place) as database:
        yield database


def known_batches(database: Database, manifest: Path) -> list[Known]:
    """A manifest's batches. Raises `UsageError` where it was never run."""
    found = database.look(batches_of, manifest)
    if not found:
        shown = database.path or database.url.render_as_string(hide_password=True)
        known = ", ".join(str(batch.manifest) for batch in database.look(batches_of, None))
        raise UsageError(f"{manifest}: not in the job table {shown}, which knows {known or 'no manifest'}")
    return found


def batch_of(database: Database, manifest: Path, simulate: bool) -> int:
    """The id of a manifest's batch, for commands that change it. Raises `UsageError` where it was never run."""
    found = known_batches(database, manifest)
    chosen = [batch for batch in found if (batch.service == "simulator") == simulate]
    if not chosen and len(found) > 1:
        raise UsageError(f"{manifest}: not run {'with' if simulate else 'without'} --simulate yet")
    return (chosen or found)[0].id


def service_of(database: Database, settings: Settings | None, folder: Path) -> AbstractAsyncContextManager[Service]:
    """The service, ready to be called; without settings, the simulator, started here and stopped at the end.

    What was simulated is kept beside the job table; in the manifest's `folder` where that is no file.
    """
    if settings is not None:
        return calling(settings.base_url, settings.key)
    table = database.path or folder / "batchgen.db"
    return simulating(table.with_name(f"{table.name}.simulator"))


def public_service(manifest: Manifest) -> AbstractAsyncContextManager[Service]:
    """The service for questions that need no key; the simulator started here, with nothing kept."""
    return simulating() if manifest.service == "simulator" else calling(read_base_url(manifest.folder), "")


@asynccontextmanager
async def calling(base_url: str, key: str, name: str = "aimlapi") -> AsyncIterator[Service]:
    """The service at an address, let go of at the end."""
    from batchgen.services.aimlapi import AimlApi

    service = AimlApi(base_url, key, name=name)
    try:
        yield service
    finally:
        await service.close()


@asynccontextmanager
async def simulating(ledger: Path | None = None) -> AsyncIterator[Service]:
    """The simulator, started here and stopped at the end; what it did is kept in `ledger`, if there is one."""
    from batchgen.simulator import Simulation, serve

    async with (
        serve(Simulation(ledger=ledger, speed=SIMULATED_SPEED)) as base_url,
        calling(base_url, "simulated", "simulator") as service,
    ):
        yield service


def chosen_keys(
    database: Database, batch_id: int, ids: Sequence[str], *, default: set[State], allowed: set[State], order: str
) -> list[str]:
    """The jobs that an `order` is about: those named, or all in the `default` states.

    Raises `UsageError` for a name that is not in the batch or a job that is in no `allowed` state.
    """
    if not ids:
        return database.look(commands.keys_in, batch_id, default)
    states = database.look(commands.states_of, batch_id, ids)
    wrong = [f"{key}: there is no such job in this batch" for key in ids if key not in states]
    wrong += [f"{key}: is {state}" for key, state in states.items() if state not in allowed]
    if wrong:
        which = " and ".join(sorted(allowed, reverse=True))
        raise UsageError("\n".join([*wrong, f"Only {which} jobs can be {order}. Nothing has been changed."]))
    return list(dict.fromkeys(ids))
