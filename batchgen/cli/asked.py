"""What a run is asked for: a manifest that is read, or one that is known and has not changed since."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from batchgen import clock
from batchgen.cli.session import settled_in, simulated
from batchgen.files import local_files
from batchgen.jobs import JobSpec
from batchgen.jobtable import memory
from batchgen.jobtable.database import Database
from batchgen.jobtable.memory import Memory
from batchgen.jobtable.sync import Batch, OnChanged, SyncResult
from batchgen.manifest import Limits


@dataclass(slots=True)
class Asked:
    """A manifest on its way into the table, or known to be there."""

    known: Memory
    limits: Limits
    """The manifest's, but for those that were given on the command line."""
    specs: list[JobSpec]
    enrolled: SyncResult | None = None

    @property
    def batch(self) -> Batch:
        return self.known.batch

    @property
    def folder(self) -> Path:
        return self.batch.manifest.parent

    async def sync(self, database: Database, on_changed: OnChanged) -> SyncResult:
        """Its jobs become rows, if they are not. Raises ManifestChanged."""
        if self.enrolled is None:
            now = clock.utcnow()
            self.enrolled = await database.write(memory.sync_manifest, self.known, self.specs, now, on_changed)
            self.specs.clear()  # a run of many hours needs none of them any more
        return self.enrolled


def recalled(database: Database, manifest: Path, simulate: bool, validate: bool) -> Asked | None:
    """The manifest, if the table knows it and it has not changed."""
    found = database.look(memory.recall, manifest, simulate, validate)
    return found and Asked(found[0], found[0].limits, [], found[1])


def read(manifest: Path, place: str | Path, simulate: bool, validate: bool) -> Asked:
    """The manifest, read, for the service that it is to be run with. Raises ManifestInvalid."""
    from batchgen import manifest as room

    written = room.read(manifest, validate=validate, settled=settled_in(place, simulate))
    asked = simulated(written) if simulate else written
    known = Memory(
        batch=Batch(asked.batch, asked.service, asked.path.absolute(), asked.sha256),
        limits=asked.limits,
        models=tuple(sorted({job.model for job in asked.jobs})),
        jobs=len(asked.jobs),
        named=asked.named,
        images=local_files.stamps(asked.folder, asked.images),
        simulated=asked is not written,
        validated=validate,
        steady=asked.steady,
    )
    return Asked(known, asked.limits, asked.jobs)
