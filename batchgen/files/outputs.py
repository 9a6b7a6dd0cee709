"""The folder of a manifest, below which every output lies. Paths are judged again, and no link is followed.

A path comes from a row of the job table, and the table may have come with the folder.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import TypeVar

from batchgen.errors import StorageError, os_reason
from batchgen.files import object_store
from batchgen.files.disk_space import check_space, shortage
from batchgen.files.output_paths import is_url, path_fault, tidy
from batchgen.files.safe_open import Directory, UnsafePath, open_below, open_directory, user_mode

T = TypeVar("T")


class OutputFolder:
    """Opens what lies below the manifest's folder. Paths are relative to it, with `/` between the parts."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.disk = root
        """A folder that exists, on the same disk."""
        self.video_mode = user_mode()

    def open_parent(self, output: str, *, create: bool = False) -> Directory:
        """The folder of an output, opened part by part. Raises `UnsafePath`, `FileNotFoundError`, `OSError`."""
        self.judge_path(output)
        return open_below(self.root, output.split("/")[:-1], create=create)

    def judge_path(self, output: str) -> None:
        """Raise `UnsafePath` where a path leads out of the folder, or is none."""
        fault = path_fault(output) or (tidy(output) != output and "the output path has a part that is a dot")
        if not fault and is_url(output):
            fault = "this lies in an object store, not below the manifest's folder"
        if fault:
            raise UnsafePath(f"{output!a}: {fault}. Give its job another `output:`")

    def sync(self, output: str) -> None:
        """fsync the folder of an output, for the names in it."""
        with self.open_parent(output) as directory:
            directory.sync()

    def exists(self, output: str) -> bool:
        """Whether anything lies at an output's path, be it a link to nowhere. An object in a store is not judged."""
        if is_url(output):
            return False
        try:
            with self.open_parent(output) as directory:
                return directory.stat(name_of(output)) is not None
        except FileNotFoundError:
            return False

    def rename(self, old: str, new: str) -> None:
        """Give an output another path, which is free. Raises `FileNotFoundError`, `StorageError`.

        An object keeps its name: no store renames.
        """
        if is_url(old) or is_url(new):
            return
        try:
            with self.open_parent(old) as directory, self.open_parent(new, create=True) as folder:
                directory.move(name_of(old), name_of(new), folder)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise StorageError(f"{self.root / old}: cannot be renamed to {new}: {os_reason(error)}") from error

    def size_and_digest(self, output: str) -> tuple[int, str] | None:
        """The size and the SHA-256 of an output; None for what is no file, or empty."""
        try:
            if is_url(output):
                if not (stored := object_store.describe(output)) or not stored.size:
                    return None
                return stored.size, stored.sha256 or object_store.digest_of(output)
            with self.open_parent(output) as directory:
                status, digest = directory.stat(name_of(output)), directory.digest_of(name_of(output))
        except (OSError, UnsafePath):
            return None
        return (status.st_size, digest) if status and status.st_size and digest else None

    def open_nearest(self, folder: str) -> Directory:
        """A folder of outputs, or the nearest one around it that is there. Raises `UnsafePath`, `OSError`."""
        names = folder.split("/") if folder else []
        self.judge_path("/".join([*names, "x"]))
        directory = open_directory(self.root)
        for name in names:
            if directory.stat(name) is None:
                break
            with directory:
                directory = directory.open_folder(name, create=False)
        return directory

    def check_space(self, output: str, size: int) -> None:
        """Raise `DiskFull` if `size` bytes more would take the reserve of the disk on which an output is to lie."""
        self._of_disk(output, lambda place: check_space(place, size))

    def is_scarce(self, output: str) -> bool:
        return bool(self._of_disk(output, shortage))

    def _of_disk(self, output: str, judge: Callable[[int | Path], T]) -> T:
        """What `judge` says of the disk of an output: another one may be mounted below the manifest's folder."""
        try:
            directory = self.open_nearest(output.rpartition("/")[0])
        except (OSError, UnsafePath):
            return judge(self.disk)
        with directory:
            return judge(directory.place)

    def judge_folders(self, outputs: Iterable[str], reserves: int) -> None:
        """Raise `StorageError` where no video could be written: no folder, no right to write in it, no space.

        Space is what is beyond so many `reserves` of free disk. Quotas and shares refuse what permissions allow, so a
        small file is made once on each disk.
        """
        disks: set[int] = set()
        for folder in folders_of(outputs):
            place, fault = self.root / folder, ""
            try:
                with self.open_nearest(folder) as directory:
                    place = directory.path
                    if not directory.may_write:
                        fault = "may not be written\nLet it be written"
                    elif short := shortage(directory.place, reserves):
                        fault = f"its disk is full: {short}\nFree some space"
                    elif (disk := directory.own_stat().st_dev) not in disks:
                        directory.try_writing()
                        disks.add(disk)
            except OSError as error:
                fault = f"cannot be written: {os_reason(error)}\nLet it be written"
            if fault:
                raise StorageError(f"{place}: {fault}, then run the same command: nothing is sent before.")


def folders_of(outputs: Iterable[str]) -> list[str]:
    """The folders of the outputs that lie below the manifest's folder, each once."""
    return sorted({output.rpartition("/")[0] for output in outputs if not is_url(output)})


def name_of(output: str) -> str:
    return output.rpartition("/")[2]


def paths_for(target: str) -> Iterator[str]:
    """The names that a file for `target` may get: clip.mp4, else clip~1.mp4, clip~2.mp4 and so on."""
    yield target
    yield from (numbered(target, number) for number in count(1))


def numbered(output: str, number: int, mark: str = "~") -> str:
    """The name of another file for the same job: clip.mp4 → clip~2.mp4."""
    folder, slash, name = output.rpartition("/")
    return f"{folder}{slash}{Path(name).stem}{mark}{number}{Path(name).suffix}"


def unnumbered(output: str) -> str:
    """The name for which another was taken: clip~2.mp4 → clip.mp4."""
    return re.sub(r"~\d+(?=(\.[^./]*)?$)", "", output)
