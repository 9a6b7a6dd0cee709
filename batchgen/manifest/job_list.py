"""The jobs of a batch, from all its files: their specs, and what no two jobs may share."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from batchgen.jobs import JobSpec
from batchgen.manifest.diagnostics import Diagnostics, Location
from batchgen.manifest.folder import Folder, Images
from batchgen.manifest.header import Header
from batchgen.manifest.job_keys import MOST_JOBS
from batchgen.manifest.outputs import Outputs
from batchgen.manifest.templates import Templates

SentIds = Callable[[str], Collection[str]]
"""Returns the ids of the jobs of a batch that were sent already, by the batch's name."""


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """One manifest file while it is read."""

    header: Header
    folder: Folder
    diagnostics: Diagnostics


class TooManyJobs(Exception):
    """The manifest has more than `MOST_JOBS` jobs."""


class Checkpoint(NamedTuple):
    """The sizes of the tables of a `JobList` at one time."""

    specs: int
    ids: int
    files: int
    folders: int


class JobList:
    """Collects the jobs. The `specs` can be sent if there are no diagnostics in the end."""

    def __init__(self, main: ManifestFile, *, validate: bool, already_sent: SentIds) -> None:
        self.header = main.header
        self.diagnostics = main.header.diagnostics
        self.validate = validate
        self.already_sent = cache(already_sent)
        self.specs: list[JobSpec] = []
        self.ids: dict[str, Location] = {}
        self.images = Images(main.folder.path)
        self.outputs = Outputs()
        self.templates = Templates()

    def append(self, spec: JobSpec) -> None:
        """Raises TooManyJobs."""
        if len(self.specs) >= MOST_JOBS:
            raise TooManyJobs
        self.specs.append(spec)

    def checkpoint(self) -> Checkpoint:
        return Checkpoint(len(self.specs), len(self.ids), len(self.outputs.files), len(self.outputs.folders))

    def roll_back(self, checkpoint: Checkpoint) -> None:
        """Remove the jobs since `checkpoint`. The tables only ever grow at the end, so their sizes suffice."""
        del self.specs[checkpoint.specs :]
        for table, size in (
            (self.ids, checkpoint.ids),
            (self.outputs.files, checkpoint.files),
            (self.outputs.folders, checkpoint.folders),
        ):
            while len(table) > size:
                table.popitem()

    def reserve_id(self, key: str, location: Location) -> str | None:
        """`key` for the job at `location`; None where another job has it, which is reported."""
        first = self.ids.setdefault(key, location)
        if first is location:
            return key
        location.report(f"two jobs have the id `{key}`", f"the other is {first.seen_from(location)}")
        return None
