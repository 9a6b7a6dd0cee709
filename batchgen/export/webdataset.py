"""A WebDataset: tar files (shards) with three members for each clip, KEY.mp4, KEY.json and KEY.txt (the prompt).

The shards that are there stay as they are; clips that no shard has go into further ones. From the same job table the
same bytes come, however often the export was broken off.
"""

from __future__ import annotations

import hashlib
import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import BinaryIO

from batchgen.errors import StorageError
from batchgen.export.clip_files import ClipChanged, ClipFiles
from batchgen.export.records import Record
from batchgen.files.disk_space import check_space
from batchgen.files.safe_open import Directory
from batchgen.files.staged_file import NameTaken, StagedFile, stage
from batchgen.report.rows import json_line

ID_CHARS = 60
"""Of an id in the name of a sample: with what follows, a name fits into the 100 characters of a plain tar header."""
DIGEST_CHARS = 12  # at the end of that name: 48 bits tell clips apart whose ids read alike
SUFFIX = re.compile(r"\.[a-z0-9]{1,5}")
UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")
"""The name of a sample has no dot, at which readers end it, and no slash."""
PERMISSIONS = 0o644


def sample_name(record: Record) -> str:
    """The name of a sample: the job's id as far as it may stand there, and a digest of the job and the clip."""
    identity = f"{record['id']}\0{record['output']}\0{record['sha256']}"
    digest = hashlib.sha256(identity.encode("utf-8", "replace")).hexdigest()[:DIGEST_CHARS]
    return f"{safe(record['id'])}-{digest}"


def safe(text: str) -> str:
    """The letters and digits of a text, for a name."""
    return UNSAFE.sub("-", text)[:ID_CHARS].strip("-") or "x"


@dataclass(slots=True)
class Shards:
    """The shards of one data set in a folder: NAME-000000.tar, NAME-000001.tar and so on."""

    folder: Directory
    name: str
    bytes_max: int
    clips: ClipFiles
    next_number: int = 0
    """Behind the numbers of the existing shards."""
    sample_names: set[str] = field(default_factory=set)
    """Of the existing shards."""
    written: list[str] = field(default_factory=list)
    """The shards that this export has made."""

    def read(self) -> None:
        """Learn what the shards that are there have. Raises `StorageError` for one that cannot be read."""
        pattern = re.compile(rf"{re.escape(self.name)}-(\d{{6,}})\.tar")
        for name in sorted(os.listdir(self.folder.place)):  # noqa: PTH208  a Path has no handle
            if match := pattern.fullmatch(name):
                self.next_number = max(self.next_number, int(match[1]) + 1)
                self.sample_names |= self.samples_in(name)

    def samples_in(self, name: str) -> set[str]:
        path = self.folder.path / name
        try:
            with self.folder.reader(name) as file, tarfile.open(fileobj=file) as shard:
                return {member.name.partition(".")[0] for member in shard}
        except (tarfile.TarError, OSError, EOFError) as error:
            raise StorageError(
                f"{path}: not a shard that can be read ({error}). Move it away, or name another folder"
            ) from error

    def write(self, records: Iterator[Record]) -> set[str]:
        """Write the clips that no shard has. Returns the names of all samples, in whatever shard. Raises `OSError`."""
        seen: set[str] = set()
        missing = self.missing(records, seen)
        record = next(missing, None)
        while record:
            with stage(self.folder, f"{self.name}-{self.next_number:06}.tar") as staged:
                shard = Shard(staged, self.clips)
                while record and shard.has_space(record["bytes"], self.bytes_max):
                    shard.add(record)
                    record = next(missing, None)
                if shard.samples:
                    shard.end()
                    self.place(staged)
        return seen

    def missing(self, records: Iterator[Record], seen: set[str]) -> Iterator[Record]:
        """The clips that no shard has. The names of all samples are added to `seen`."""
        for record in records:
            sample = sample_name(record)
            seen.add(sample)
            if sample not in self.sample_names:
                yield record
            else:
                self.clips.exported += 1

    def place(self, staged: StagedFile) -> None:
        """Give a shard its name. Raises `StorageError` where another file has it."""
        try:
            staged.place()
        except NameTaken:
            path = self.folder.path / staged.name
            raise StorageError(f"{path}: another export made this file meanwhile. Run the same command again") from None
        self.next_number += 1
        self.written.append(staged.name)


class Shard:
    """One tar file while it is written. Its headers have nothing but what the job table says."""

    def __init__(self, staged: StagedFile, clips: ClipFiles) -> None:
        self.staged, self.clips, self.samples = staged, clips, 0
        self.file: BinaryIO = staged.file

    def has_space(self, size: int, bytes_max: int) -> bool:
        return not self.samples or self.file.tell() + size <= bytes_max

    def add(self, record: Record) -> None:
        """Add a clip with its record and its prompt. One that is not as it was delivered is left out, and noted."""
        sample = sample_name(record)
        start, modified = self.file.tell(), int(record["delivered_at"].timestamp())
        suffix = PurePosixPath(record["path"]).suffix.lower()
        check_space(self.file.fileno() if os.name == "posix" else self.staged.folder.path, record["bytes"])
        try:
            self.add_header(f"{sample}{suffix if SUFFIX.fullmatch(suffix) else '.mp4'}", record["bytes"], modified)
            for chunk in self.clips.read(record):
                self.file.write(chunk)
            self.pad()
        except ClipChanged as error:
            self.file.seek(start)
            self.file.truncate()
            self.clips.note_lost(record, str(error))
            return
        for ending, text in ((".json", json_line(record)), (".txt", record["prompt"] or "")):
            content = text.encode("utf-8", "replace")
            self.add_header(f"{sample}{ending}", len(content), modified)
            self.file.write(content)
            self.pad()
        self.samples += 1
        self.clips.exported += 1

    def add_header(self, name: str, size: int, modified: int) -> None:
        member = tarfile.TarInfo(name)
        member.size, member.mtime, member.mode = size, modified, PERMISSIONS
        self.file.write(member.tobuf(tarfile.PAX_FORMAT))

    def pad(self, block: int = tarfile.BLOCKSIZE) -> None:
        self.file.write(bytes(-self.file.tell() % block))

    def end(self) -> None:
        """Write the end of a tar file: two empty blocks, and more up to a whole record."""
        self.file.write(bytes(2 * tarfile.BLOCKSIZE))
        self.pad(tarfile.RECORDSIZE)
