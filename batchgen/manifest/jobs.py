"""The jobs of a batch, whatever file they stand in: what they share, and what no two of them may."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from batchgen.jobs import JobSpec
from batchgen.manifest.expansion import MOST_JOBS, Folder
from batchgen.manifest.header import Header
from batchgen.manifest.images import Images
from batchgen.manifest.outputs import Outputs
from batchgen.manifest.source import Findings
from batchgen.manifest.spots import Spot
from batchgen.manifest.templates import Templates

Settled = Callable[[str], Collection[str]]
"""From a batch's name, the ids of its jobs that were sent already: their images may be gone."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """One manifest file while its jobs are read: its defaults, its folder, and what is wrong in it."""

    header: Header
    folder: Folder
    findings: Findings


class TooMany(Exception):
    """The manifest has more jobs than one may have."""


class Mark(NamedTuple):
    """How far the jobs had got."""

    specs: int
    ids: int
    files: int
    folders: int


class Jobs:
    """Takes the jobs in turn. `specs` are jobs that can be sent if, in the end, there are no findings."""

    def __init__(self, header: Header, folder: Folder, findings: Findings, *, validate: bool, settled: Settled) -> None:
        self.header = header
        self.findings = findings
        """As the header, those of the main manifest."""
        self.validate = validate
        self.settled = cache(settled)
        self.specs: list[JobSpec] = []
        self.ids: dict[str, Spot] = {}
        self.images = Images(folder.path)
        self.outputs = Outputs()
        self.templates = Templates()

    def append(self, spec: JobSpec) -> None:
        """Raises TooMany."""
        if len(self.specs) >= MOST_JOBS:
            raise TooMany
        self.specs.append(spec)

    def mark(self) -> Mark:
        return Mark(len(self.specs), len(self.ids), len(self.outputs.files), len(self.outputs.folders))

    def rewind(self, mark: Mark) -> None:
        """Forget all jobs since `mark`. Everything here is only ever added to, in order."""
        del self.specs[mark.specs :]
        for table, size in (
            (self.ids, mark.ids),
            (self.outputs.files, mark.files),
            (self.outputs.folders, mark.folders),
        ):
            while len(table) > size:
                table.popitem()

    def claim(self, key: str, spot: Spot) -> str | None:
        """The id `key`, for the job at `spot`; None, and a finding, if another job has it."""
        first = self.ids.setdefault(key, spot)
        if first is spot:
            return key
        spot.add(f"two jobs have the id `{key}`", f"the other is {first.told(spot)}")
        return None
