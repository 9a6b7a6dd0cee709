"""The delivered files on the disk, judged and copied: what is lost or has changed is never exported in silence."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from batchgen.errors import StorageError, os_reason
from batchgen.export.records import Record
from batchgen.files import object_store
from batchgen.files.delivered import OTHER_CONTENT, DeliveredFile, LostFile, loss_of, losses_of
from batchgen.files.input_file import InputFault, open_input
from batchgen.files.output_paths import is_url

CHUNK_BYTES = 1 << 20  # copied at once
PAGE = 200  # clips that are looked for at once: a store answers many questions at a time


class ClipChanged(Exception):
    """A clip is not there as it was delivered: `str(error)` says in words what is there instead."""


@dataclass(slots=True)
class ClipFiles:
    """The clips of one batch below `folder`, and what was found of them."""

    folder: Path
    lost: list[LostFile] = field(default_factory=list)
    exported: int = 0

    def present(self, records: Iterator[Record], *, verify: bool) -> Iterator[Record]:
        """The clips that are there as they were delivered, by their size, or with `verify` by their content.

        The others are noted. Raises `StorageError` where a store does not answer.
        """
        while page := list(islice(records, PAGE)):
            with store_errors(page[0]):
                losses = list(losses_of(self.folder, map(delivered_file, page), verify=verify))
            for record, lost in zip(page, losses, strict=True):
                if lost:
                    self.lost.append(lost)
                else:
                    self.exported += 1
                    yield record

    def read(self, record: Record) -> Iterator[bytes]:
        """The bytes of a clip, compared with the job table while they pass. Raises `ClipChanged`, perhaps at the end.

        A link that a person has made to it is as good, since only the right content passes.
        """
        digest = hashlib.sha256()
        with store_errors(record):
            if lost := loss_of(self.folder, delivered_file(record), verify=False):
                raise ClipChanged(lost.fault)
            for chunk in self.content_of(record):
                digest.update(chunk)
                yield chunk
        if digest.hexdigest() != record["sha256"]:
            raise ClipChanged(OTHER_CONTENT)

    def content_of(self, record: Record) -> Iterator[bytes]:
        """As many bytes as the clip had. Raises `ClipChanged`, and `OSError` where an object store does not answer."""
        path, missing = record["path"], record["bytes"]
        if is_url(path):
            yield from object_store.read(path, 0, missing)
            return
        try:
            with open_input(self.folder / path, missing) as file:
                while missing and (chunk := file.read(min(CHUNK_BYTES, missing))):
                    missing -= len(chunk)
                    yield chunk
            if missing:
                raise InputFault("it is changing")
        except (InputFault, OSError) as error:
            raise ClipChanged(f"cannot be read: {os_reason(error)}") from error

    def note_lost(self, record: Record, fault: str) -> None:
        self.lost.append(LostFile(delivered_file(record), fault))


@contextmanager
def store_errors(record: Record) -> Iterator[None]:
    """A store that cannot be read ends the export: its clips are not lost for that. Raises `StorageError`."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"{record['path']}: {os_reason(error)}. The same command goes on from there") from None


def delivered_file(record: Record) -> DeliveredFile:
    return DeliveredFile(*(record[name] for name in ("id", "output", "path", "bytes", "sha256")))
