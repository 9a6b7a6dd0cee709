"""`check`: whether a manifest is valid, and whether what it names can be reached."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from batchgen.api.event_loop import complete
from batchgen.errors import ManifestInvalid
from batchgen.manifest.reader import read
from batchgen.services.registry import DEFAULT, SIMULATOR

SIMULATED = "simulated"  # added to the name of a batch, and the folder of its videos


@dataclass(frozen=True, slots=True)
class Check:
    """A valid manifest, how many of its jobs each model has, and what may go wrong all the same."""

    batch: str
    jobs: int
    models: Mapping[str, int]
    warnings: tuple[str, ...] = ()
    service: str = DEFAULT


def check(manifest: str | Path, *, validate: bool = True, online: bool = False) -> Check:
    """Validate a manifest. Raises `ManifestInvalid` with all problems.

    With `online`, fetch its remote images, and try the object stores of its outputs, which may raise `StorageError`.
    """

    def learn_models() -> None:
        # Imported here, because few manifests need it: the database's library takes longer than all the rest.
        from batchgen.jobtable import batches, pricelist
        from batchgen.jobtable.database import Database

        location = batches.table_location(None, Path(manifest))
        if batches.table_exists(location):
            with Database(location) as database:
                database.read_now(pricelist.learn_models, DEFAULT)

    valid = read(Path(manifest), validate=validate, learn_models=learn_models)
    if online:
        from batchgen.files import object_store
        from batchgen.services.account import read_public_account
        from batchgen.services.registry import plugin
        from batchgen.services.remote_images import problems

        service = read_public_account(plugin(valid.service).variables, valid.folder)
        if unreachable := complete(problems(valid, service.base_url)):
            raise ManifestInvalid(unreachable)
        complete(object_store.check_stores([job.output for job in valid.jobs]))
    return Check(
        stored_name(valid.batch, valid.service),
        len(valid.jobs),
        Counter(job.model for job in valid.jobs),
        valid.warnings,
        valid.service,
    )


def stored_name(batch: str, service: str) -> str:
    """The name of a manifest's batch in the job table, as it runs at this service."""
    return simulated_name(batch) if service == SIMULATOR else batch


def simulated_name(batch: str) -> str:
    """The name of the batch that a manifest makes at the simulator: nothing real is touched."""
    return f"{batch}-{SIMULATED}"
