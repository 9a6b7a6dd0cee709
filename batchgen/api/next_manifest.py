"""The next manifest: jobs that were judged, as they were sent, for another model or for another try."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from batchgen.api.checking import simulated_name
from batchgen.catalogue import pointers, register
from batchgen.catalogue.amounts import amount_text
from batchgen.catalogue.wording import listed, plural
from batchgen.errors import UsageError
from batchgen.files.local_files import FileDigests
from batchgen.files.output_paths import BYTES_ADDED_LATER, folded, path_fault
from batchgen.jobtable import lineage, pricelist, verdicts
from batchgen.jobtable.batches import StoredBatch, made_by, stored_batches
from batchgen.jobtable.database import Database
from batchgen.jobtable.rows import chunks_of
from batchgen.manifest import bounds
from batchgen.manifest.header import ServiceKeys
from batchgen.manifest.job_keys import name_fault
from batchgen.manifest.successor import Successor, Target, for_model, placed, with_new_seed
from batchgen.manifest.yaml_text import Unwritable, comment, entry_lines, flow, yaml_string
from batchgen.services.registry import DEFAULT, SIMULATOR

SHOWN_PROBLEMS = 20


@dataclass(frozen=True, slots=True)
class NextOptions:
    choice: verdicts.VerdictFilter
    model: str | None = None
    reseed: bool = False
    validate: bool = True
    path: Path | None = None
    """The file that will be written; None for a text whose place nobody knows."""
    command: str = "batchgen next"
    """As it was typed, for the file's header."""
    command_line: Callable[[str], str] = "batchgen {}".format
    """From the name of another command to its text for the same batch."""


def next_manifest(
    database: Database, batch: StoredBatch, manifest: Path, options: NextOptions, now: datetime
) -> NextManifest:
    """The manifest of the chosen jobs of a batch. Raises `UsageError` where there are none, or one cannot be written.

    `manifest` is the file that the batch was made from: local files lie in its folder.
    """
    database.read_now(pricelist.learn_models, DEFAULT)
    if options.path:
        judge_batch_name(database, options.path)
    ids = database.read_now(verdicts.chosen_ids, batch.id, options.choice)
    left_out = database.read_now(verdicts.left_out, batch.id, options.choice)
    if not ids:
        hint = f"Judge the clips with `{options.command_line('review')}`, or import a file of verdicts with"
        hint += f" `{options.command_line('verdicts import FILE')}`."
        if left_out.keys() == {"not delivered"}:
            hint = f"`{options.command_line('status')}` says what the jobs wait for."
        nothing = f"there are no {chosen_words(options.choice, batch.name)}: {left_out_words(left_out)}"
        raise UsageError(f"{manifest}: {nothing}.\n{hint}")
    target = target_of(database, batch, options)
    used = database.read_now(lineage.used_seeds, batch.name) if options.reseed else lineage.UsedSeeds()
    made = NextManifest(batch.name, target, options, FileDigests(manifest.absolute().parent), used, left_out)
    for chunk in chunks_of(ids):  # requests may be long
        for row in database.read_now(verdicts.sent_jobs, chunk):
            made.add(row)
    if made.problems:
        raise UsageError(refusal(made.problems, options.model))
    if not made.jobs:
        raise UsageError(f"{manifest}: no job is left: {left_out_words(left_out)}")
    made.lines = [*made.header(manifest, now), *made.lines]
    if (size := len(made.text.encode())) > bounds.MANIFEST_BYTES:
        most = bounds.MANIFEST_BYTES // 1_000_000
        raise UsageError(f"the manifest would have {size / 1e6:,.0f} MB, and may have {most}; choose fewer jobs")
    return made


def judge_batch_name(database: Database, path: Path) -> None:
    """Raise `UsageError` where a batch cannot be called as its file, or another manifest's batch is."""
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


def target_of(database: Database, batch: StoredBatch, options: NextOptions) -> Target:
    """What the jobs are written for: the service of the batch, in the style that most of them were sent in.

    Raises `UsageError` for a model that the service does not have.
    """
    paths = database.read_now(verdicts.chosen_paths, batch.id, options.choice)

    def sent_so(service: ServiceKeys) -> int:
        return sum(number for (model, path), number in paths.items() if service.path_of(model) == path)

    styles = (ServiceKeys(name=batch.service), ServiceKeys(name=batch.service, endpoint="legacy"))
    service = max(styles, key=sent_so)
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


@dataclass(slots=True)
class NextManifest:
    """A manifest to which the chosen jobs are added, and what a person should know about it. Ids are those of jobs."""

    batch: str
    """The batch that its jobs come from."""
    target: Target
    options: NextOptions
    digests: FileDigests
    """Those of the local files that were sent."""
    used: lineage.UsedSeeds = field(default_factory=lineage.UsedSeeds)
    left_out: dict[str, int] = field(default_factory=dict)
    """How many jobs of the batch are not in it, by the reason."""
    jobs: int = 0
    left_out_params: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """The parameters that the other model does not take, with the ids."""
    changed_files: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """What has become of local files since they were sent, with the ids."""
    repeats: list[str] = field(default_factory=list)
    """The ids of requests that were paid for just so."""
    unchecked: list[str] = field(default_factory=list)
    """The ids of jobs that need --no-validate."""
    problems: list[str] = field(default_factory=list)
    """Why it cannot be written."""
    lines: list[str] = field(default_factory=list)
    outputs: set[str] = field(default_factory=set)

    @property
    def name(self) -> str | None:
        """Its own batch, called as its file; None where nobody knows that."""
        return self.options.path.stem if self.options.path else None

    @property
    def text(self) -> str:
        return "\n".join(self.lines) + "\n"

    def add(self, row: Any) -> None:
        """Add a row of `verdicts.sent_jobs`, or what is wrong with it to the problems."""
        params = {name: value for name, value in json.loads(row.request).items() if name != "model"}
        sent = Successor(row.model, row.endpoint, params, tuple(json.loads(row.input_pointers)), row.take)
        job = for_model(sent, self.target)
        if self.target.model is None and job.endpoint != sent.endpoint:
            reason = f"sent to {row.endpoint}, to which this manifest cannot lead"
            self.left_out[reason] = self.left_out.get(reason, 0) + 1
            return
        self.problems += [f"{row.key}: {problem}" for problem in job.problems]
        if self.options.reseed:
            take = self.used.next_take(row.endpoint, row.request, row.take)
            job = with_new_seed(job, self.target, row.fingerprint, self.used.seeds, take)
        if (job.model, job.endpoint, job.params, job.take) == (sent.model, sent.endpoint, sent.params, sent.take):
            self.repeats.append(row.key)
        job = placed(job, self.target)
        if not job.is_valid:
            self.unchecked.append(row.key)
        for param in job.left_out:
            self.left_out_params[param].append(row.key)
        faults = self.file_faults(row)
        for fault in faults:
            self.changed_files[fault].append(row.key)
        self.jobs += 1
        left_out = [f"left out, as the model does not take it: {', '.join(job.left_out)}"] if job.left_out else []
        comments = [self.origin(row), *left_out, *faults]
        try:
            self.lines += entry_lines(comments, self.keys(row, job), self.output(row.key))
        except Unwritable as error:
            self.problems.append(f"{row.key}: {error}")

    def keys(self, row: Any, job: Successor) -> dict[str, Any]:
        """The keys of a job in the order in which they are written, without its output."""
        params = self.relocated(job)
        keys: dict[str, Any] = {"id": row.key, "from": {"batch": self.batch, "id": row.key}}
        if job.take > 1:
            keys["take"] = job.take
        if not self.options.model:  # else the defaults have it
            keys["model"] = job.model
        keys |= {name: value for name, value in params.items() if name not in job.extra}
        extra = {name: value for name, value in params.items() if name in job.extra}
        labels = {"extra": extra, "priority": row.priority, "tags": json.loads(row.tags)}
        return keys | {name: value for name, value in labels.items() if value}

    def relocated(self, job: Successor) -> Mapping[str, Any]:
        """The parameters with the paths of local files relative to the folder of the new manifest."""
        folder = self.digests.folder
        new_folder = self.options.path.absolute().parent if self.options.path else folder
        if not job.file_pointers or folder == new_folder:
            return job.params
        params = deepcopy(job.params)
        for pointer in job.file_pointers:
            container, name = pointers.parent_of(params, pointer)
            container[name] = path_between(folder, new_folder, container[name])
        return params

    def output(self, key: str) -> str | None:
        """A path of the job's own, where the usual one cannot be, or another job has it."""
        folder, name, number = self.name or "next", key, self.jobs
        while path_fault(path := f"{folder}/{name}.mp4", BYTES_ADDED_LATER) or folded(path) in self.outputs:
            name, number = f"job-{number}", number + 1
        self.outputs.add(folded(path))
        return None if name == key else f"{{{{ batch }}}}/{name}.mp4"

    def file_faults(self, row: Any) -> list[str]:
        """What has become of the local files of a job since they were sent."""
        faults = []
        for name, sent in json.loads(row.input_digests or "{}").items():
            self.digests.recorded[name, sent["size"], sent["mtime_ns"]] = sent["sha256"]
            now = self.digests.of(name)
            if now is None:
                faults.append(f"{name} is missing: put it back before a run")
            elif now != sent["sha256"]:
                faults.append(f"{name} has changed since it was sent: it would be another video")
        return faults

    def origin(self, row: Any) -> str:
        stars = f", {plural(row.stars, 'star')}" if row.stars else ""
        cost = f", {amount_text(row.cost_usd)} USD" if row.cost_usd is not None else ""
        return f"{row.key} of {self.batch}: {row.verdict or 'no verdict'}{stars}{cost}"

    def header(self, manifest: Path, now: datetime) -> list[str]:
        """The lines above the jobs."""
        options, service = self.options, self.target.service
        changes = [f"for {options.model}"] if options.model else []
        changes += ["with new seeds or takes"] if options.reseed else []
        comments = [
            ", ".join([f"The {chosen_words(options.choice, self.batch)}, as they were sent", *changes]) + ".",
            f"Written {now:%Y-%m-%d %H:%M} UTC by: {options.command}",
            "A job's videos go to the folder of this batch, whatever its `output:` was.",
            "Limits are not taken over: the key `limits:` sets them, and a cap on the cost (`max_cost`) with them.",
        ]
        simulated = f"These jobs were simulated: for real videos, write `service: {DEFAULT}`."
        comments += [simulated] if service.name == SIMULATOR else []
        comments += [] if self.name else [f"Paths are relative to the folder of {manifest}."]
        unchecked = "Some jobs are not as the catalogue documents them: this manifest needs --no-validate."
        comments += [unchecked] if self.unchecked else []
        is_universal = service.endpoint == "universal"
        keys = {"batch": yaml_string(self.name)} if self.name else {}
        keys["service"] = flow(service.name if is_universal else {"name": service.name, "endpoint": service.endpoint})
        if options.model:
            keys["defaults"] = flow({"model": options.model})
        return [*map(comment, comments), "", *(f"{key}: {text}" for key, text in keys.items()), "jobs:"]


def path_between(folder: Path, other: Path, path: str) -> str:
    """A path in a folder as one in another folder."""
    if Path(path).is_absolute():
        return path
    absolute = folder.resolve() / path
    try:
        moved = os.path.relpath(absolute, other.resolve()).replace(os.sep, "/")
    except ValueError:  # another drive of Windows
        return str(absolute)
    # A name alone could be taken for base64, a data URI or the home folder.
    is_clear = "." in moved and ":" not in moved and not moved.startswith("~")
    return moved if is_clear else f"./{moved}"


def chosen_words(choice: verdicts.VerdictFilter, batch: str) -> str:
    """What was chosen, for sentences: "picked jobs of spring with 4 stars or more"."""
    stars = f" with {plural(choice.stars, 'star')} or more" if choice.stars else ""
    return f"{choice.verdict or ''} jobs of {batch}{stars}".lstrip()
