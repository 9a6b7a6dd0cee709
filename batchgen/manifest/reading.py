"""Reading a manifest from its file."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from batchgen.catalogue.register import Style
from batchgen.errors import ManifestInvalid, Problem
from batchgen.jobs import JobSpec
from batchgen.manifest import words
from batchgen.manifest.entry import Entry
from batchgen.manifest.expansion import MOST_JOBS, Folder
from batchgen.manifest.header import SERVICES, Header
from batchgen.manifest.jobs import Jobs, Settled, Sheet, TooMany
from batchgen.manifest.limits import Limits
from batchgen.manifest.nodes import Node, Stop, entries
from batchgen.manifest.source import Findings, Marked, Place, Source
from batchgen.manifest.spots import Spot


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest without a fault: every job can be sent as it is."""

    path: Path
    """As it was given."""
    folder: Path
    """Absolute. What the manifest names is relative to it."""
    batch: str
    service: str
    """Either aimlapi or simulator."""
    endpoint_style: Style
    limits: Limits
    sha256: str
    """SHA-256 of the manifest file's bytes, in hex."""
    jobs: list[JobSpec]


def read(path: Path, *, service: str | None = None, validate: bool = True, settled: Settled | None = None) -> Manifest:
    """The manifest at `path`, checked to the last parameter and image; nothing is written or sent.

    `service` overrides the manifest's own. Without `validate`, models and parameters that the catalogue does not know
    pass. `settled` tells, for a batch's name, the ids of jobs that were sent already: their images may be gone. It is
    asked only if one is. Raises ManifestInvalid with everything that is wrong.
    """
    assert service is None or service in SERVICES, service
    raw = _bytes(path)
    reading = _Reading(Source.decode(path, raw), validate=validate, settled=settled or (lambda _batch: ()))
    header, jobs = reading.all()
    return Manifest(
        path=path,
        folder=reading.folder.path,
        batch=header.batch,
        service=service or header.service,
        endpoint_style=header.style,
        limits=header.limits,
        sha256=hashlib.sha256(raw).hexdigest(),
        jobs=jobs.specs,
    )


def _bytes(path: Path) -> bytes:
    def refuse(message: str, hint: str = "") -> NoReturn:
        raise ManifestInvalid([Problem(message, path, hint=hint)]) from None

    try:
        if path.is_dir():
            refuse("this is a folder, not a manifest", "name the YAML file in it")
        if path.exists() and not path.is_file():
            refuse("this is not a regular file")
        return path.read_bytes()
    except FileNotFoundError:
        refuse("there is no such manifest")
    except PermissionError:
        refuse("the manifest may not be read")
    except (OSError, ValueError) as error:
        refuse(f"the manifest cannot be read: {getattr(error, 'strerror', None) or error}")


class _Reading:
    """A manifest and those it includes, on their way to the jobs of one batch."""

    def __init__(self, source: Source, *, validate: bool, settled: Settled) -> None:
        self.source = source
        self.folder = Folder(source.path.absolute().parent, shown=source.path.parent)
        findings = Findings(source)
        self.header = Header(source.path.stem, findings)
        self.jobs = Jobs(self.header, self.folder, findings, validate=validate, settled=settled)
        self.findings = [findings]
        self.problems: list[Problem] = []
        self.seen: dict[Path, Spot | None] = {self.folder.path.joinpath(source.path.name).resolve(): None}
        self.whole = True
        """Whether every file was read to its end."""

    def all(self) -> tuple[Header, Jobs]:
        """Raises ManifestInvalid."""
        try:
            self.sheet(self.source, self.folder, self.header, ())
        except TooMany:
            place = Place(1, 1)
            self.findings[0].add(place, f"the manifest has more than {MOST_JOBS:,} jobs", "make several of it")
        if self.whole:
            named = self.folder.named
            manifests = [self.source.path.name, *(name for name, kind in named.items() if kind == "include")]
            rows = [name for name, kind in named.items() if kind == "rows"]
            self.jobs.outputs.finish(manifests, rows, self.jobs.images.faults)
        self.problems += [problem for findings in self.findings for problem in findings.problems()]
        if self.problems:
            raise ManifestInvalid(self.problems)
        return self.header, self.jobs

    def sheet(self, source: Source, folder: Folder, header: Header, above: tuple[Path, ...]) -> None:
        """Read one manifest, and then those that it includes."""
        mark = self.jobs.mark()
        sheet = Sheet(header, folder, Findings(source))
        if self.scan(sheet, first=True):
            # What stands after the jobs applies to them as well: they are read again, now that it is known.
            self.jobs.rewind(mark)
            sheet = Sheet(header, folder, Findings(source))
            self.scan(sheet, first=False)
        self.findings.append(sheet.findings)
        within = (*above, source.path)
        for node in header.includes:
            self.include(node, sheet, within)

    def include(self, node: Node, sheet: Sheet, above: tuple[Path, ...]) -> None:
        spot = Spot(sheet.findings, Place.of(node))
        path = sheet.folder.path / node.value
        shown = sheet.folder.shown / node.value
        try:
            identity = path.resolve()
        except (OSError, ValueError):
            identity = path
        if identity in self.seen:
            first = self.seen[identity]
            chain = " → ".join(str(each) for each in (*above, shown))
            if first is None or any(each.absolute().resolve() == identity for each in above):
                spot.add(f"a manifest cannot include itself: {node.value[:200]}", chain)
            else:
                spot.add(f"this manifest is included twice: {node.value[:200]}", f"first {first.told(spot)}")
            return
        self.seen[identity] = spot
        sheet.folder.name(node.value, "include")
        try:
            raw = _bytes(path)
        except ManifestInvalid as invalid:
            spot.add(f"{invalid.problems[0].message}: {node.value[:200]}", invalid.problems[0].hint)
            return
        try:
            source = Source.decode(shown, raw)
        except ManifestInvalid as invalid:
            self.problems += invalid.problems
            return
        findings = Findings(source)
        self.findings.append(findings)
        self.sheet(source, sheet.folder.below(node.value), Header("", findings, included=True), above)

    def scan(self, sheet: Sheet, *, first: bool) -> bool:
        """Read one text from end to end; whether anything of the header stood after the jobs."""
        header, findings = sheet.header, sheet.header.findings
        listed: Marked | None = None
        late = some = False
        try:
            for key, node in entries(findings, stream="jobs"):
                if key is None:
                    some = True
                    self.add(sheet, node)
                elif key.value == "jobs":
                    listed = key
                    if type(node.value) is not list and node.value is not None:
                        findings.add(node, f"`jobs` must be a list, not {words.kind(node)}")
                        continue
                    for entry in node.value or ():
                        some = True
                        self.add(sheet, entry)
                else:
                    late = late or (listed is not None and key.value != "include")
                    if first:
                        header.take(key.value, key, node)
            if not some and not findings and not header.includes:
                findings.add(listed or Place(1, 1), "the manifest has no jobs", "list them under `jobs:`")
        except Stop:
            self.whole = False
        return late

    def add(self, sheet: Sheet, node: Node) -> None:
        if type(node.value) is not dict:
            sheet.findings.add(node, f"a job must be a mapping, not {words.kind(node)}")
            return
        Entry(self.jobs, sheet, node).add()
