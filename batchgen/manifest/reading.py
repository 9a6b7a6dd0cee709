"""Reading a manifest from its file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from batchgen.catalogue.register import Style
from batchgen.errors import ManifestInvalid, Problem
from batchgen.jobs import JobSpec
from batchgen.manifest import words
from batchgen.manifest.header import SERVICES, Header
from batchgen.manifest.jobs import Jobs
from batchgen.manifest.limits import Limits
from batchgen.manifest.nodes import Stop, entries
from batchgen.manifest.source import Findings, Marked, Place, Source


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
    """Of the file's bytes, in hex."""
    jobs: list[JobSpec]


def read(
    path: Path, *, service: str | None = None, settled: Callable[[str], Collection[str]] | None = None
) -> Manifest:
    """The manifest at `path`, checked to the last parameter and image; nothing is written or sent.

    `service` overrides the manifest's own. `settled` tells, for a batch's name, the ids of jobs that were sent already:
    their images may be gone. It is asked only if one is. Raises ManifestInvalid with everything that is wrong.
    """
    assert service is None or service in SERVICES, service
    raw = _bytes(path)
    source = Source.decode(path, raw)
    folder = path.absolute().parent
    header, jobs = _scan(source, folder, settled or (lambda _batch: ()))
    return Manifest(
        path=path,
        folder=folder,
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


def _scan(source: Source, folder: Path, settled: Callable[[str], Collection[str]]) -> tuple[Header, Jobs]:
    findings = Findings(source)
    header = Header(source.path.stem, findings, settled)
    jobs, late = _pass(source, folder, header, findings, first=True)
    if late:
        # What stands after the jobs applies to them as well: they are read again, now that it is known.
        jobs, _ = _pass(source, folder, header, findings, first=False)
    if problems := findings.problems() + jobs.findings.problems():
        raise ManifestInvalid(problems)
    return header, jobs


def _pass(source: Source, folder: Path, header: Header, findings: Findings, *, first: bool) -> tuple[Jobs, bool]:
    """Read the text from end to end; also says whether anything of the header stood after the jobs."""
    jobs = Jobs(header, folder, source.path.name, Findings(source))
    listed: Marked | None = None
    late = False
    try:
        for key, node in entries(findings, stream="jobs"):
            if key is None:
                jobs.add(node)
            elif key.value == "jobs":
                listed = key
                if type(node.value) is not list and node.value is not None:
                    findings.add(node, f"`jobs` must be a list, not {words.kind(node)}")
                    continue
                for entry in node.value or ():
                    jobs.add(entry)
            else:
                late = late or listed is not None
                if first:
                    header.take(key.value, key, node)
        if not jobs.index and not findings:
            findings.add(listed or Place(1, 1), "the manifest has no jobs", "list them under `jobs:`")
        jobs.finish()
    except Stop:
        pass
    return jobs, late
