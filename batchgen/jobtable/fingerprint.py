"""The fingerprint of a request: what is paid for, whatever the job, the manifest and the local files are called."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from sqlalchemy import Connection, select

from batchgen.catalogue.pointers import parent_of
from batchgen.files.local_files import FileDigests
from batchgen.files.output_paths import is_url
from batchgen.jobs import Job, JobSpec, State
from batchgen.jobtable.joins import ATTEMPTS
from batchgen.jobtable.schema import attempts, batches, jobs

DIGITS = 16
"""How many digits of a fingerprint a client request id carries: 64 bits, too many to coincide by chance."""
CLIENT_REQUEST_ID = re.compile(rf"batchgen-([0-9a-f]{{{DIGITS}}})-[0-9a-f]{{32}}")


@dataclass(frozen=True, slots=True)
class JobWithFiles:
    """A job whose request names local files, for a machine that has no manifest."""

    id: int
    endpoint: str
    request: str
    input_pointers: tuple[str, ...]
    fingerprint: str
    take: int
    stored: Mapping[str, str]
    """The digests of the files by name, where the object store of the job's output has them."""

    def is_whole(self, digest_of: Callable[[str], str | None]) -> bool:
        """Whether the files can be had as they were enrolled; `digest_of` gives the digests of those that are here."""
        return fingerprint(self, lambda name: digest_of(name) or self.stored.get(name) or "none") == self.fingerprint


Requested = Job | JobSpec | JobWithFiles
"""Whose request is paid for, as the table, the manifest or a worker has it."""


def fingerprint(job: Requested, digest: Callable[[str], str]) -> str:
    """A digest of what is paid for: another fingerprint is another video.

    A local file counts by its content, which `digest` returns for its name. The order of the parameters does not count.
    """
    document = json.loads(job.request)
    for pointer in job.input_pointers:
        container, key = parent_of(document, pointer)
        container[key] = {"sha256": digest(container[key])}
    body = json.dumps(document, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    parts = [job.endpoint, body, *([f"take {job.take}"] if job.take > 1 else [])]
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogatepass")).hexdigest()


def fingerprint_as_read(job: Job, digests: str) -> str:
    """The fingerprint of a job's request, with its local files as they were just read."""
    content = {name: file["sha256"] for name, file in json.loads(digests).items()}
    return fingerprint(job, content.__getitem__)


def local_names(job: Requested) -> list[str]:
    """The local files of a request, relative to the manifest's folder."""
    document = json.loads(job.request) if job.input_pointers else None
    return [container[key] for container, key in (parent_of(document, pointer) for pointer in job.input_pointers)]


def recorded_digests(connection: Connection, batch: str) -> list[str | None]:
    """What was recorded of the local files of a batch when they were sent."""
    digests = select(attempts.c.input_digests).select_from(ATTEMPTS).join(batches).distinct()
    sent = digests.where(batches.c.name == batch, attempts.c.input_digests.is_not(None))
    return list(connection.execute(sent).scalars())


def jobs_with_files(connection: Connection, batch_id: int) -> list[JobWithFiles]:
    """The jobs that name local files and may still be sent, at once or when a person retries them."""
    sendable = [state for state in State if not state.is_accepted]
    columns = (jobs.c.id, jobs.c.endpoint, jobs.c.request, jobs.c.input_pointers, jobs.c.input_files)
    where = (jobs.c.batch_id == batch_id, jobs.c.state.in_(sendable), jobs.c.input_pointers != "[]")
    rows = connection.execute(select(*columns, jobs.c.output_path, jobs.c.fingerprint, jobs.c.take).where(*where))
    return [
        JobWithFiles(
            *(row.id, row.endpoint, row.request, tuple(json.loads(row.input_pointers))),
            *(row.fingerprint, row.take),
            stored=json.loads(row.input_files or "{}") if is_url(row.output_path) else {},
        )
        for row in rows
    ]


def read_digests(folder: Path, specs: Sequence[JobSpec], recorded: Sequence[str | None]) -> FileDigests:
    """Read the local files of all jobs: they may be large, so this comes before the transaction of the sync."""
    digests = FileDigests(folder, recorded)
    for spec in specs:
        for name in local_names(spec):
            digests.of(name)
    return digests


def fingerprint_of(spec: JobSpec, digests: FileDigests, sent: str | None = None) -> str:
    """The fingerprint of a job's request; a file that is gone counts as it was `sent`."""

    def digest(name: str) -> str:
        return digests.of(name) or json.loads(sent or "{}").get(name, {}).get("sha256", "")

    return fingerprint(spec, digest)


def input_files(spec: JobSpec, digests: FileDigests) -> str | None:
    """The digests of a job's local files by their names, as JSON; None where it has none."""
    names = local_names(spec)
    return json.dumps({name: digests.of(name) for name in names}, ensure_ascii=False) if names else None


def new_request_id(request_fingerprint: str) -> str:
    """A client request id that no other request has. In the service's log, it shows which request it was."""
    return f"batchgen-{request_fingerprint[:DIGITS]}-{uuid4().hex}"


def digits_of(client_request_id: str) -> str | None:
    """The first digits of the fingerprint in a client request id; None for an id of another program."""
    match = CLIENT_REQUEST_ID.fullmatch(client_request_id)
    return match.group(1) if match else None
