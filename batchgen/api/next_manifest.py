"""The next manifest: jobs that were judged, as they were sent, for another model or for another try."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from batchgen.api.checking import simulated_name
from batchgen.api.next_jobs import Composer, NextManifest, NextOptions, chosen_words
from batchgen.catalogue import register
from batchgen.catalogue.register import Style
from batchgen.catalogue.wording import listed
from batchgen.errors import UsageError
from batchgen.files.output_paths import BYTES_ADDED_LATER, path_fault
from batchgen.jobtable import lineage, pricelist, verdicts
from batchgen.jobtable.batches import StoredBatch, made_by, stored_batches
from batchgen.jobtable.chunks import chunks_of
from batchgen.jobtable.database import Database
from batchgen.jobtable.lineage import UsedSeeds
from batchgen.manifest import bounds
from batchgen.manifest.header import ServiceKeys
from batchgen.manifest.job_keys import name_fault
from batchgen.manifest.successor import Target
from batchgen.services.registry import DEFAULT

SHOWN_PROBLEMS = 20


def next_manifest(
    database: Database, batch: StoredBatch, manifest: Path, options: NextOptions, now: datetime
) -> NextManifest:
    """The manifest of the chosen jobs of a batch. Raises `UsageError` where there are none, or one cannot be written.

    `manifest` is the file that the batch was made from: local files lie in its folder.
    """
    database.read_now(pricelist.learn_models, DEFAULT)
    name = new_batch_name(database, options.path)
    chosen, left_out = database.read_now(verdicts.counts, batch.id, options.choice)
    made = NextManifest(batch.name, left_out=left_out)
    if not chosen:
        raise UsageError(
            f"{manifest}: there are no {chosen_words(options.choice, batch.name)}: {left_out_words(left_out)}.\n"
            f"Judge the clips with `{options.command_line('review')}`, or import a file of verdicts with"
            f" `{options.command_line('verdicts import FILE')}`."
        )
    target = target_of(database, batch, options)
    used = database.read_now(lineage.used_seeds, batch.name) if options.reseed else UsedSeeds()
    composer = Composer(made, target, options, manifest.absolute().parent, used, name or "next")
    ids = database.read_now(verdicts.chosen_ids, batch.id, options.choice)
    for chunk in chunks_of(ids):  # requests may be long
        for row in database.read_now(verdicts.sent_jobs, chunk):
            composer.add(row)
    if composer.problems:
        raise UsageError(refusal(composer.problems, options.model))
    if not made.jobs:
        raise UsageError(f"{manifest}: no job is left: {left_out_words(left_out)}")
    made.lines = [*composer.header(manifest, now, name), *composer.lines]
    if (size := sum(len(line.encode()) + 1 for line in made.lines)) > bounds.MANIFEST_BYTES:
        most = bounds.MANIFEST_BYTES // 1_000_000
        raise UsageError(f"the manifest would have {size / 1e6:,.0f} MB, and may have {most}; choose fewer jobs")
    return made


def new_batch_name(database: Database, path: Path | None) -> str | None:
    """The name of the new batch: that of its file. Raises `UsageError` where another manifest's batch has it."""
    if path is None:
        return None
    name = path.stem
    if fault := name_fault(name):
        raise UsageError(f"{path}: the name of the file is that of the new batch, and it {fault}")
    if fault := path_fault(f"{name}/clip.mp4", BYTES_ADDED_LATER):
        raise UsageError(f"{path}: the videos go to a folder that is called as the file: {fault}")
    for stored in database.read_now(stored_batches):
        if stored.name in (name, simulated_name(name)) and not made_by([stored], path):
            raise UsageError(
                f"{path}: the new batch would be called {name!r}, as the batch of {stored.manifest_path} is."
                " Name another file with -o"
            )
    return name


def target_of(database: Database, batch: StoredBatch, options: NextOptions) -> Target:
    """What the jobs are written for: the service of the batch, in the style that most of them were sent in.

    Raises `UsageError` for a model that the service does not have.
    """
    paths = database.read_now(verdicts.chosen_paths, batch.id, options.choice)

    def sent_so(service: ServiceKeys) -> int:
        return sum(number for (model, path), number in paths.items() if service.path_of(model) == path)

    styles: tuple[Style, ...] = ("universal", "legacy")
    service = max((ServiceKeys(name=batch.service, endpoint=style) for style in styles), key=sent_so)
    if options.model is not None:
        judge_model(options.model, service, batch.name, validate=options.validate)
    return Target(service, options.model, options.validate)


def judge_model(model: str, service: ServiceKeys, batch: str, *, validate: bool) -> None:
    if service.is_catalogued:
        if not service.documents(model) and validate:
            similar = register.nearest(model)
            hint = f"; did you mean {listed(similar, 'or')}?" if similar else ""
            raise UsageError(f"--model: there is no model {model!r}{hint}\n`batchgen models` lists them.")
        if service.documents(model) and not register.is_served(model, service.endpoint):
            raise UsageError(f"--model: {model} has no {service.endpoint} endpoint, to which {batch} was sent")
    if fault := name_fault(model):
        raise UsageError(f"--model {fault}")


def left_out_words(left_out: Mapping[str, int]) -> str:
    """How many jobs are left out and why: "2 rejected, 1 not delivered"."""
    return ", ".join(f"{number} {reason}" for reason, number in left_out.items()) or "the batch has no jobs"


def refusal(problems: Sequence[str], model: str | None) -> str:
    shown = "\n".join(problems[:SHOWN_PROBLEMS])
    more = f"\n… and {len(problems) - SHOWN_PROBLEMS} more" if len(problems) > SHOWN_PROBLEMS else ""
    hint = f"`batchgen models {model}` shows what it takes." if model else "Mend the job in its own manifest."
    return f"{shown}{more}\nNothing has been written. {hint}"
