"""Local files that travel with a request: read, and hashed so that a later change is noticed.

With outputs in an object store they lie there, too, so that a machine without a file can send its job all the same: in
a folder beside the outputs, each under the SHA-256 of its content. One image of many jobs is stored once.
"""

import asyncio
import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from batchgen.catalogue.links import first_frame
from batchgen.catalogue.pointers import parent_of
from batchgen.errors import NO_DESCRIPTORS, os_reason
from batchgen.files import object_store
from batchgen.files.input_file import InputFault, open_input, size_in_words
from batchgen.files.media import HEAD_BYTES, MEDIA_BYTES, media_type_of
from batchgen.files.output_paths import is_url
from batchgen.jobs import Job
from batchgen.services.base import LocalFile

FRAME_CHARS = 12_000_000  # of a first frame as a data URI: a photo; a larger one goes to no child process
NO_INPUT = "no input"
"""The digest of what lies under a file's name and is no file, or too large: it differs from what was sent."""
STORE_FOLDER = "inputs"
UPLOADS_AT_ONCE = 8
CONTENT_TYPE = "application/octet-stream"


def read(
    folder: Path, request: str, pointers: Sequence[str], output: str = "", input_files: str | None = None
) -> tuple[dict[str, LocalFile], str]:
    """The files that `pointers` lead to in a request, by their pointers; and their digests as JSON.

    One that is not in `folder` is fetched from the store of `output`, if `input_files` has its digest. Raises
    `InputFault`, and `OSError` for a fault of the machine.
    """
    document = json.loads(request)
    files: dict[str, LocalFile] = {}
    digests: dict[str, dict[str, Any]] = {}
    for pointer in pointers:
        container, key = parent_of(document, pointer)
        name = container[key]
        try:
            content, modified_ns = read_whole(folder, name, output, input_files)
        except (InputFault, OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno in NO_DESCRIPTORS:
                raise
            raise InputFault(f"{name}: {os_reason(error)}") from error
        if not 0 < len(content) <= MEDIA_BYTES:
            raise InputFault(f"{name}: the file has changed: it has {size_in_words(len(content))}")
        # Never by the name: it may lie, and each machine has another table of types.
        media_type = media_type_of(content[:HEAD_BYTES]) or "application/octet-stream"
        files[pointer] = LocalFile(name, media_type, content)
        digest = hashlib.sha256(content).hexdigest()
        digests[name] = {"size": len(content), "mtime_ns": modified_ns, "sha256": digest}
    return files, json.dumps(digests)


def read_whole(folder: Path, name: str, output: str, input_files: str | None) -> tuple[bytes, int]:
    """The content of a file, and when it was modified; 0 for one from the store. Raises `InputFault`, `OSError`."""
    try:
        with open_input(folder / name, MEDIA_BYTES) as file:
            return file.read(MEDIA_BYTES + 1), os.fstat(file.fileno()).st_mtime_ns
    except (FileNotFoundError, NotADirectoryError):
        if (content := fetch(output, input_files, name)) is None:
            raise
        return content, 0


def changed_files(folder: Path, digests: str | None) -> list[str]:
    """The names of the files whose content has changed since it was sent. A file that is gone has not changed."""
    files = FileDigests(folder, [digests])
    return [name for name, sent in json.loads(digests or "{}").items() if files.of(name) not in (None, sent["sha256"])]


class FileDigests:
    """The SHA-256 of local files by name, each file read at most once.

    A file of the size and the time of modification that were recorded when it was sent is not read.
    """

    def __init__(self, folder: Path, recorded: Iterable[str | None] = ()) -> None:
        self.folder = folder
        self.recorded: dict[tuple[str, int, int], str] = {}
        self.by_name: dict[str, str | None] = {}
        for digests in filter(None, recorded):
            for name, sent in json.loads(digests).items():
                self.recorded[name, sent["size"], sent["mtime_ns"]] = sent["sha256"]

    def of(self, name: str) -> str | None:
        """The digest of a file as it is now; `NO_INPUT` for what cannot be sent, None for a file that is gone."""
        if name not in self.by_name:
            self.by_name[name] = self.read(name)
        return self.by_name[name]

    def read(self, name: str) -> str | None:
        try:
            status = (self.folder / name).stat()
            if sent := self.recorded.get((name, status.st_size, status.st_mtime_ns)):
                return sent
            with open_input(self.folder / name, MEDIA_BYTES) as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except InputFault:
            return NO_INPUT
        except (OSError, ValueError):
            return None


def first_frame_of(folder: Path, request: str, input_digests: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The path or the data URI of the image with which a clip begins, by the digests of the files that were sent.

    None for one that is remote, gone, changed or too large.
    """
    image = first_frame(json.loads(request))
    if image is None:
        return None
    if image.startswith("data:"):
        return image if len(image) <= FRAME_CHARS else None
    if not (sent := input_digests.get(image)):
        return None
    try:
        status = (folder / image).stat()
    except (OSError, ValueError):
        return None
    is_same = (status.st_size, status.st_mtime_ns) == (sent["size"], sent["mtime_ns"])
    return str(folder / image) if is_same else None


def url_of(output: str, sha256: str) -> str:
    """Where a file is stored for the job of this output."""
    return f"{output.rpartition('/')[0]}/{STORE_FOLDER}/{sha256}"


async def store(folder: Path, names: Mapping[str, str]) -> None:
    """Upload the files that are not there yet. `names` has the name of each below `folder`, by its URL.

    A file that is gone is left out: whoever sends its job says so. Raises `OSError` where the store refuses.
    """
    stored: set[str] = set()
    for place in {url.rpartition("/")[0] for url in names}:
        stored |= {f"{place}/{name}" for name in await asyncio.to_thread(object_store.names_in, place)}
    free_places = asyncio.Semaphore(UPLOADS_AT_ONCE)

    async def upload(url: str, name: str) -> None:
        async with free_places:
            try:
                file = await asyncio.to_thread(open_input, folder / name, MEDIA_BYTES)
            except (OSError, InputFault):
                return
            with file:
                await object_store.upload(url, file, url.rpartition("/")[2], CONTENT_TYPE)

    async with asyncio.TaskGroup() as uploads:
        for url, name in names.items():
            if url not in stored:
                uploads.create_task(upload(url, name))


async def read_files(folder: Path, job: Job) -> tuple[Mapping[str, LocalFile], str | None]:
    """The local files of a job, and their digests; what this machine lacks comes from the store of its output.

    Raises `InputFault`, and `OSError` for a fault of the machine.
    """
    if not job.input_pointers:
        return {}, None
    names = (job.request, job.input_pointers, job.output_path, job.input_files)
    return await asyncio.to_thread(read, folder, *names)


def fetch(output: str, input_files: str | None, name: str) -> bytes | None:
    """The content of a file that the job's row has a digest of; None where it is not stored, or is another.

    Raises `OSError` where the store cannot be read.
    """
    sha256 = json.loads(input_files or "{}").get(name)
    if not sha256 or not is_url(output):
        return None
    try:
        content = b"".join(object_store.read(url_of(output, sha256), 0, MEDIA_BYTES))
    except FileNotFoundError:
        return None
    return content if hashlib.sha256(content).hexdigest() == sha256 else None
