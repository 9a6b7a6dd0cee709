"""The jobs of a batch, from all its files: their specs, and what no two jobs may share."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cache

from batchgen.jobs import JobSpec
from batchgen.manifest.diagnostics import Diagnostics, Location
from batchgen.manifest.folder import Folder, image_fault
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


class JobList:
    """Collects the jobs. The `specs` can be sent if there are no diagnostics in the end."""

    def __init__(self, main: ManifestFile, *, validate: bool, already_sent: SentIds) -> None:
        self.header = main.header
        self.diagnostics = main.header.diagnostics
        self.validate = validate
        self.already_sent = cache(already_sent)
        self.specs: list[JobSpec] = []
        self.ids: dict[str, Location] = {}
        self.folder = main.folder.path
        self.image_faults: dict[str, str | None] = {}
        self.outputs = Outputs()
        self.templates = Templates()

    def append(self, spec: JobSpec) -> None:
        """Raises TooManyJobs."""
        if len(self.specs) >= MOST_JOBS:
            raise TooManyJobs
        self.specs.append(spec)

    def remove(self, file: ManifestFile, first: int) -> None:
        """Remove the jobs of `file`, which are the specs from the index `first` on, so that it can be read again."""
        del self.specs[first:]
        for table in (self.ids, self.outputs.files, self.outputs.folders):
            for key in [key for key, location in table.items() if location.diagnostics is file.diagnostics]:
                del table[key]

    def image_fault(self, path: str) -> str | None:
        """What is wrong with a local image, or None. Each image is checked once, however many jobs use it."""
        if path not in self.image_faults:
            self.image_faults[path] = image_fault(self.folder, path)
        return self.image_faults[path]

    def reserve_id(self, key: str, location: Location) -> str | None:
        """`key` for the job at `location`; None where another job has it, which is reported."""
        first = self.ids.setdefault(key, location)
        if first is location:
            return key
        location.report(f"two jobs have the id `{key}`", f"the other is {first.seen_from(location)}")
        return None
