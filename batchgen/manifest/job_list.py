"""The list of jobs of all manifests of a batch: their specs, and what no two jobs may share."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache, partial
from posixpath import normpath

from batchgen.catalogue.links import Medium
from batchgen.files.input_file import InputFault
from batchgen.files.media import MISSING, LocalMedium, decode_fault, inspect, inspect_text
from batchgen.files.output_paths import folded
from batchgen.files.spelling import FileNames
from batchgen.jobs import JobSpec
from batchgen.manifest import bounds
from batchgen.manifest.diagnostics import Location, ReadingEnded
from batchgen.manifest.header import ManifestFile
from batchgen.manifest.job_keys import MOST_JOBS
from batchgen.manifest.path_help import missing_hint
from batchgen.manifest.templates import Templates

DECODERS = 4
"""Images that are decoded at one time: each may need 200 MB."""

DIVIDE = "divide it into several manifests"

SentIds = Callable[[str, str], Collection[str]]
"""Returns the ids of the jobs of a batch that were sent already, by the batch's name."""


class JobList:
    """Collects the jobs. The `specs` can be sent if there are no diagnostics in the end."""

    def __init__(
        self, main: ManifestFile, *, validate: bool, already_sent: SentIds, learn_models: Callable[[], object]
    ) -> None:
        self.main = main
        self.validate = validate
        self.already_sent = cache(already_sent)
        self.learn_models = cache(learn_models)
        self.specs: list[JobSpec] = []
        self.chars = self.values = 0
        """The characters and the values in all requests."""
        self.ids: dict[str, Location] = {}
        self.outputs: dict[str, Location] = {}
        """The paths of the videos, and where each is written; beside it the folders in them."""
        self.output_folders: dict[str, Location] = {}
        # The caches do not hold the list itself: a circle would stay in memory when the reading is over.
        self.inspected = cache(partial(inspect_medium, main, FileNames()))
        """Judges each medium that requests name or hold once, however many jobs use it."""
        self.decoders = decoders = ThreadPoolExecutor(min(os.cpu_count() or 1, DECODERS), "decode")
        self.decoded = cache(lambda path: decoders.submit(decode_fault, main.folder / path))
        """Decodes a local image to its end, beside the reading of further jobs."""
        self.images: list[tuple[Future[str | None], str, Location]] = []
        """The fault of each local image, and the id and the place of a job that uses it."""
        self.templates = Templates()

    def documents(self, model: str) -> bool:
        """Whether the catalogue describes this model of the batch's service."""
        service = self.main.service
        if service.is_catalogued and not service.documents(model):
            self.learn_models()
        return service.documents(model)

    def append(self, spec: JobSpec, values: int) -> None:
        """Append a job whose request has so many `values`. Raises ReadingEnded."""
        if len(self.specs) >= MOST_JOBS:
            raise ReadingEnded(f"the manifest has more than {MOST_JOBS:,} jobs", DIVIDE)
        self.specs.append(spec)
        self.chars += len(spec.request)
        self.values += values
        number = len(self.specs)
        too_long = self.chars > bounds.REQUESTS_CHARS + bounds.TYPICAL_CHARS * number
        if too_long or self.values > bounds.REQUESTS_VALUES + bounds.TYPICAL_VALUES * number:
            size = f"{self.chars:,} characters and {self.values:,} values"
            raise ReadingEnded(f"the first {number:,} jobs have {size} in their requests: too many", DIVIDE)

    def remove(self, file: ManifestFile, jobs: int, chars: int, values: int) -> None:
        """Remove the jobs of `file`, so that it can be read again; before them there were so many."""
        del self.specs[jobs:]
        self.chars, self.values = chars, values
        for table in (self.ids, self.outputs, self.output_folders):
            for key in [key for key, location in table.items() if location.diagnostics is file.job_diagnostics]:
                del table[key]

    def report_undecodable(self) -> None:
        """Report the images that cannot be decoded, at each job that uses one. The image of a sent job may be gone."""
        for fault, key, location in self.images:
            if (message := fault.result()) and key not in self.sent_keys():
                location.report(message)

    def sent_keys(self) -> Collection[str]:
        return self.already_sent(self.main.batch, self.main.service.name)

    def add_output(self, path: str, location: Location) -> bool:
        """Add the path of the job at `location`. Reports a collision and returns False."""
        key = folded(path)
        if not reserve(self.outputs, key, location, f"two jobs would be written to {path}"):
            return False
        while (key := key.rpartition("/")[0]) and key not in self.output_folders:
            self.output_folders[key] = location
        return True

    def report_overwrites(self, read: Mapping[str, str]) -> None:
        """Report videos that would replace a folder, or one of the files that are `read`, with what they are called."""
        for key in self.outputs.keys() & self.output_folders.keys():
            location, folder = self.outputs[key], self.output_folders[key]
            location.report(f"a video would be written to {key}, a folder {folder.seen_from(location)}")
        for path, noun in read.items():
            if overwriting := self.outputs.get(folded(normpath(path))):
                overwriting.report(f"the video would be written over {noun}: {path}")


def reserve(places: dict[str, Location], name: str, location: Location, message: str) -> bool:
    """Whether a name is free, which is the job's at `location` from now on. Else the `message` is reported."""
    first = places.setdefault(name, location)
    if first is not location:
        location.report(message, f"the other is {first.seen_from(location)}")
    return first is location


def inspect_medium(
    main: ManifestFile, file_names: FileNames, value: str, medium: Medium, is_text: bool
) -> tuple[LocalMedium | InputFault, str]:
    """A medium that stands in the request itself as text, or the local file that `value` means; and how it is sent:
    the text, or the path as it is on the disk."""
    path = value if is_text else file_names.existing(main.folder, value)
    try:
        if is_text:
            return inspect_text(value, medium)
        medium_there = inspect(main.folder, path, medium)
        main.files_read[path] = "an image that the jobs use"
    except InputFault as fault:
        if is_text or MISSING not in str(fault):
            return fault, path
        hint = missing_hint(file_names, main.folder, value)
        if os.path.lexists(main.folder / path):
            hint = "this is a link to a file that is not there"
        return InputFault(str(fault), hint), path
    return medium_there, path
