"""Reads a manifest and the manifests that it includes."""

import hashlib
import os
from collections.abc import Callable, Container
from dataclasses import dataclass
from pathlib import Path

from batchgen.catalogue.register import Style, learned_at
from batchgen.catalogue.rules import is_retired
from batchgen.catalogue.wording import quoted
from batchgen.errors import INIT_WRITES, ManifestInvalid, Problem
from batchgen.files.input_file import InputFault
from batchgen.files.spelling import similar_manifest
from batchgen.jobs import JobSpec
from batchgen.manifest import bounds
from batchgen.manifest.diagnostics import Diagnostics, Location, ReadingEnded, ReadingStopped
from batchgen.manifest.header import ManifestFile
from batchgen.manifest.job_builder import JobBuilder
from batchgen.manifest.job_list import DIVIDE, JobList, SentIds
from batchgen.manifest.limits import Limits
from batchgen.manifest.nodes import Node, top_level
from batchgen.manifest.rows import SPREADSHEETS, SUFFIXES
from batchgen.manifest.source import Marked, Position, SourceText, read_bytes

ROWS_ALONE = {*SUFFIXES, *SPREADSHEETS} - {".txt"}
"""Files that are no manifests, whatever is in them."""
A_FOLDER = "this is a folder, not a manifest"
STREAMS = Path("/dev"), Path("/dev/fd")
"""Where `/dev/stdin` lies: root may write there, into memory, and the videos would be gone at the next start."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """A valid manifest: every job can be sent as it is."""

    path: Path
    """As the caller gave it."""
    folder: Path
    """Absolute. The paths in the manifest are relative to it."""
    batch: str
    service: str
    endpoint_style: Style
    limits: Limits
    sha256: str
    """SHA-256 of the manifest file's bytes, in hex."""
    jobs: list[JobSpec]
    remarks: tuple[str, ...] = ()
    """Warnings about the text, each with its place."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What may go wrong although every job is valid."""
        models = sorted({job.model for job in self.jobs})
        retired = [f"{model}: the service no longer supports this model" for model in models if is_retired(model)]
        live = [(model, at) for model in models if (at := learned_at(model))]
        notes = [f"{model}: checked by its live document of {at:%Y-%m-%d}, not by the catalogue" for model, at in live]
        return (*self.remarks, *retired, *notes)


def read(
    path: Path,
    *,
    validate: bool = True,
    already_sent: SentIds = lambda _batch, _service: (),
    learn_models: Callable[[], object] = lambda: None,
) -> Manifest:
    """Read and check the manifest at `path`, to the last parameter and image. Writes and sends nothing.

    Without `validate`, and for a service that the catalogue does not describe, models and parameters are not checked.
    `already_sent` returns the ids of jobs that were sent before, by the batch's name and its service: their images may
    be gone. It is called only if an image is missing. `learn_models` lets the catalogue know models that are newer; it
    is called only if a model is unknown. Raises ManifestInvalid with all problems.
    """
    try:
        raw = _read_manifest(path)
    except InputFault as error:
        raise ManifestInvalid([Problem(str(error), path, hint=error.hint)]) from None
    main = ManifestFile(SourceText(path, raw))
    jobs = JobList(main, validate=validate, already_sent=already_sent, learn_models=learn_models)
    reader = _Reader(main, jobs)
    try:
        reader.read_all()
    except ManifestInvalid as invalid:
        invalid.service = main.service.name if "name" in main.service.model_fields_set else None
        raise
    return Manifest(
        path=path,
        folder=main.folder,
        batch=main.batch,
        service=main.service.name,
        endpoint_style=main.service.endpoint,
        limits=main.limits,
        sha256=hashlib.sha256(raw).hexdigest(),
        jobs=jobs.specs,
        remarks=tuple(dict.fromkeys(line for diagnostics in reader.diagnostics for line in diagnostics.warnings())),
    )


def _read_manifest(path: Path, read_before: Container[Path] = ()) -> bytes:
    """The bytes of a manifest, which is none of those that were read before. Raises InputFault."""
    try:
        str(path.absolute()).encode()  # the job table keeps it, and a name on a disk may be of any bytes
    except UnicodeEncodeError:
        hint = "rename it, or set LC_ALL=C.UTF-8 in the environment"
        raise InputFault("the path of this manifest is not UTF-8", hint) from None
    if Path(os.path.normpath(path.absolute())).parent in STREAMS:
        raise InputFault("this is a stream, which has no folder for the videos", "write it into a file, and name that")
    if path.suffix.lower() in ROWS_ALONE:
        hint = f"write a manifest beside it, with `rows: {path.name[:100]}` in a job, and name that"
        raise InputFault("this is a file of rows, not a manifest", hint)
    missing = "there is no such manifest"
    try:
        return read_bytes(path, "manifest", missing, bounds.MANIFEST_BYTES)
    except InputFault as fault:
        if str(fault) not in (missing, A_FOLDER):
            raise
        other = "name the YAML file in it" if str(fault) == A_FOLDER else "" if read_before else INIT_WRITES
        raise InputFault(str(fault), similar_manifest(path, read_before) or other) from None


class _Reader:
    """Reads the main manifest and its includes into one list of jobs."""

    def __init__(self, main: ManifestFile, jobs: JobList) -> None:
        self.main = main
        self.jobs = jobs
        self.diagnostics: list[Diagnostics] = []
        self.problems: list[Problem] = []
        self.included: dict[Path, Location | None] = {main.diagnostics.source.path.resolve(): None}
        """The manifests that were read, with the location of their `include`; None for the main manifest."""
        self.complete = True
        """Whether all files were parsed to their end."""

    def read_all(self) -> None:
        """Raises ManifestInvalid."""
        manifest = self.main.diagnostics.source.path
        try:
            self.read_file(self.main)
            self.jobs.report_undecodable()
        except ReadingEnded as error:
            self.complete = False
            self.problems.append(Problem(str(error), manifest, hint=error.hint))
        finally:
            self.jobs.decoders.shutdown(cancel_futures=True)
        if self.complete:
            self.jobs.report_overwrites({manifest.name: "the manifest", **self.main.files_read})
        self.problems += [problem for diagnostics in self.diagnostics for problem in diagnostics.problems()]
        if self.problems:
            raise ManifestInvalid(self.problems)

    def read_file(self, file: ManifestFile) -> None:
        """Read one manifest and then its includes."""
        self.diagnostics += file.diagnostics, file.job_diagnostics
        before = len(self.jobs.specs), self.jobs.chars, self.jobs.values
        if self.scan(file, read_header=True):
            # Header keys stand after the jobs, to which they apply as well: the jobs are read again.
            self.jobs.remove(file, *before)
            self.diagnostics[-1] = file.job_diagnostics = Diagnostics(file.diagnostics.source)
            self.scan(file, read_header=False)
        for node in file.includes:
            self.include(node, file)

    def include(self, node: Node, file: ManifestFile) -> None:
        location = Location(file.diagnostics, Position.of(node))
        path, shown = file.folder / node.value, file.diagnostics.source.path.parent / node.value
        try:
            identity = path.resolve()
        except (OSError, ValueError, RuntimeError):  # before Python 3.13, a link to itself is a RuntimeError
            identity = path
        if identity in self.included:
            first = self.included[identity]
            if first is None or any(above.absolute().resolve() == identity for above in file.chain):
                cycle = " → ".join(str(path) for path in (*file.chain, shown))
                location.report(f"a manifest cannot include itself: {node.value[:200]}", cycle)
            else:
                hint = f"first {first.seen_from(location)}"
                location.report(f"this manifest is included twice: {node.value[:200]}", hint)
            return
        self.included[identity] = location
        file.files_read[file.join(node.value)] = "the manifest"
        if len(self.included) > bounds.INCLUDES or len(file.chain) > bounds.INCLUDE_DEPTH:
            most = f"at most {bounds.INCLUDES:,} manifests, and {bounds.INCLUDE_DEPTH} that include one another"
            location.report(f"a batch has {most}", DIVIDE)
            return
        try:
            source = SourceText(shown, _read_manifest(path, self.included))
        except InputFault as error:
            location.report(f"{error}: {node.value[:200]}", error.hint)
            return
        except ManifestInvalid as invalid:
            self.problems += invalid.problems
            return
        self.read_file(ManifestFile(source, file, node.value))

    def scan(self, file: ManifestFile, *, read_header: bool) -> bool:
        """Parse one text from end to end. Returns whether a header key stands after the jobs."""
        jobs_key: Marked | None = None
        late_key = has_jobs = False
        try:
            for key, node in top_level(file.diagnostics, streamed="jobs"):
                if key is None:
                    has_jobs = True
                    self.add_entry(file, node)
                elif key.value == "jobs":
                    jobs_key = key
                    if type(node.value) is not list and node.value is not None:
                        hint = "begin each job with a dash: - id: NAME"
                        file.diagnostics.add(node, f"`jobs` must be a list, not {quoted(node.value)}", hint)
                        continue
                    for entry in node.value or ():
                        has_jobs = True
                        self.add_entry(file, entry)
                else:
                    late_key = late_key or (jobs_key is not None and key.value != "include")
                    if read_header:
                        file.read_key(key.value, key, node)
            if not has_jobs and not file.diagnostics and not file.includes:
                where = jobs_key or Position(1, 1)
                file.diagnostics.add(where, "the manifest has no jobs", "list them under `jobs:`")
        except ReadingStopped:
            self.complete = False
        return late_key

    def add_entry(self, file: ManifestFile, node: Node) -> None:
        if type(node.value) is not dict:
            file.job_diagnostics.add(
                node, f"a job must be a mapping, not {quoted(node.value)}", "write {id: NAME, prompt: …}"
            )
            return
        JobBuilder(self.jobs, file, node).build()
