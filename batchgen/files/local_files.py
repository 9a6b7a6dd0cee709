"""Local files that travel with a request: read, and hashed so that a later change is noticed."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from batchgen.catalogue.links import first_frame
from batchgen.catalogue.pointers import parent_of
from batchgen.errors import NO_DESCRIPTORS, os_reason
from batchgen.files.input_file import InputFault, open_input, size_in_words
from batchgen.files.media import HEAD_BYTES, MEDIA_BYTES, media_type_of
from batchgen.services.base import LocalFile

FRAME_CHARS = 12_000_000  # of a first frame as a data URI: a photo; a larger one goes to no child process
NO_INPUT = "no input"
"""The digest of what lies under a file's name and is no file, or too large: it differs from what was sent."""


def read(
    folder: Path, request: str, pointers: Sequence[str], fetch: Callable[[str], bytes | None] = lambda _name: None
) -> tuple[dict[str, LocalFile], str]:
    """The files that `pointers` lead to in a request, by their pointers; and their digests as JSON.

    `fetch` gets a file that is not in `folder`. Raises `InputFault`, and `OSError` for a fault of the machine.
    """
    document = json.loads(request)
    files: dict[str, LocalFile] = {}
    digests: dict[str, dict[str, Any]] = {}
    for pointer in pointers:
        container, key = parent_of(document, pointer)
        name = container[key]
        try:
            content, modified_ns = read_whole(folder / name, partial(fetch, name))
        except InputFault as error:
            raise InputFault(f"{name}: {error}") from error
        except (OSError, ValueError) as error:
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


def read_whole(path: Path, fetch: Callable[[], bytes | None]) -> tuple[bytes, int]:
    """The content of a file, and when it was modified; 0 for one that `fetch` has brought. Raises `OSError`."""
    try:
        with open_input(path, MEDIA_BYTES) as file:
            return file.read(MEDIA_BYTES + 1), os.fstat(file.fileno()).st_mtime_ns
    except (FileNotFoundError, NotADirectoryError):
        content = fetch()
        if content is None:
            raise
        return content, 0


def changed(folder: Path, digests: str | None) -> list[str]:
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
