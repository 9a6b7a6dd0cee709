"""Path safety: the one module that opens the files that batchgen makes: videos, `.part` files, locks, tables, logs.

A manifest's folder may come from somebody else, and git and tar carry links. So nothing is opened through a link, and
nothing is written but a regular file with one name that belongs to the user. On POSIX a folder is a handle, from which
names are opened without following links (openat, `O_NOFOLLOW`); on Windows, which lacks both, a plain check of each
name comes before it is opened.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Iterable
from contextlib import suppress
from io import BufferedReader
from pathlib import Path

from batchgen.errors import StorageError, os_reason

PRIVATE = 0o600  # the permissions of what only batchgen reads: tables, locks, logs and unfinished downloads
PRIVATE_FOLDER = 0o700
NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
FLAGS = NO_FOLLOW | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
"""Of every open. `O_NONBLOCK`: a named pipe must not hold up whoever opens it."""
FOLDER_FLAGS = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)
HAS_HANDLES = {os.open, os.stat, os.access, os.mkdir, os.unlink, os.rename, os.link} <= os.supports_dir_fd
NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
"""Errors of a file system without hard links, such as FAT."""
KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
TRIAL_BYTES = 4_096  # a block: a quota may be used up to the last one
LOG_LINE = re.compile(rb"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  ", re.MULTILINE)  # of the log that `progress.py` writes
DATABASE_SUFFIXES = ("", "-wal", "-shm", "-journal")  # the files that SQLite keeps for one database


class UnsafePath(StorageError):
    """What lies at a path is not batchgen's to write. The message names the path, what is there, and what to do."""


class Directory:
    """A folder whose names are opened without following links. A context manager; `path` is for messages."""

    def __init__(self, path: Path, descriptor: int | None) -> None:
        self.path = path
        self.descriptor = descriptor
        """The handle of the folder; None where names are looked up by its path: on Windows, or for a single file."""

    def __enter__(self) -> Directory:
        return self

    def __exit__(self, *_: object) -> None:
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None

    def locate(self, name: str) -> str:
        """`name` as the functions of `os` need it beside `dir_fd=self.descriptor`."""
        return str(self.path / name) if self.descriptor is None else name

    @property
    def place(self) -> int | Path:
        """The folder, for functions that take its handle or its path."""
        return self.path if self.descriptor is None else self.descriptor

    @property
    def may_write(self) -> bool:
        """Whether names can be made in it, as far as can be seen without trying."""
        return os.access(self.locate("."), os.W_OK | os.X_OK, dir_fd=self.descriptor)

    def stat(self, name: str) -> os.stat_result | None:
        """What lies at a name itself, links not followed; None where nothing does."""
        try:
            return os.stat(self.locate(name), dir_fd=self.descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def has(self, name: str, descriptor: int) -> bool:
        """Whether an open file is still the one that has this name."""
        status = self.stat(name)
        return status is not None and os.path.samestat(status, os.fstat(descriptor))

    def open(self, name: str, flags: int) -> int:
        """Open a regular file, for writing one of ours, and return its descriptor. A new one is private.

        Raises `UnsafePath`, `OSError`. `O_TRUNC` is not for `flags`: it would empty the file before it is judged.
        """
        is_read = not flags & (os.O_WRONLY | os.O_RDWR)
        before = self.stat(name)
        if before:  # a device must not even be opened
            self.check_safe(name, before, is_read=is_read)
        try:
            descriptor = os.open(self.locate(name), flags | FLAGS, PRIVATE, dir_fd=self.descriptor)
        except PermissionError as error:
            if before is None:  # the folder may not be written
                raise
            raise unsafe(self.path / name, "may not be written: its permissions forbid it") from error
        try:
            self.check_safe(name, os.fstat(descriptor), is_read=is_read)
        except UnsafePath:
            os.close(descriptor)
            raise
        return descriptor

    def reader(self, name: str) -> BufferedReader:
        """A regular file, to read. Raises `UnsafePath`, `OSError`."""
        return os.fdopen(self.open(name, os.O_RDONLY), "rb")

    def make(self, name: str, content: bytes, mode: int = PRIVATE) -> None:
        """Make a small file under a free name. It is not synced. Raises `FileExistsError`, `UnsafePath`, `OSError`."""
        with os.fdopen(self.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
            file.write(content)
            set_mode(file.fileno(), mode)

    def digest_of(self, name: str) -> str | None:
        """The SHA-256 of a regular file; None for what is not one, or may not be read."""
        try:
            file = self.reader(name)
        except (OSError, UnsafePath):
            return None
        with file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def holds(self, name: str, size: int, sha256: str) -> bool:
        """Whether a file of this content has the name."""
        status = self.stat(name)
        return status is not None and status.st_size == size and self.digest_of(name) == sha256

    def check_safe(self, name: str, status: os.stat_result, *, is_read: bool = False) -> None:
        """Raise `UnsafePath` if this is not a regular file, or one to write that has other names or another owner.

        The owner of the folder counts as the user, who could replace every file in it anyway.
        """
        path = self.path / name
        if not stat.S_ISREG(status.st_mode):
            raise unsafe(path, is_a(status, path))
        if is_read:
            return
        if status.st_nlink > 1:
            raise unsafe(path, "has a second name (a hard link), so it may be a file of yours")
        if HAS_HANDLES and status.st_uid not in (os.geteuid(), self.own_stat().st_uid):
            raise unsafe(path, f"belongs to another user (uid {status.st_uid})")

    def own_stat(self) -> os.stat_result:
        return self.path.stat() if self.descriptor is None else os.fstat(self.descriptor)

    def open_folder(self, name: str, *, create: bool, mode: int = 0o777) -> Directory:
        """A folder in this one, its name durable if it is made. Raises `UnsafePath`, `FileNotFoundError`, `OSError`."""
        path = self.path / name
        status = self.stat(name)
        if status is None and create:
            with suppress(FileExistsError):  # another download needs it as well
                os.mkdir(self.locate(name), mode, dir_fd=self.descriptor)
            self.sync()
            status = self.stat(name)
        if status and not stat.S_ISDIR(status.st_mode):
            raise unsafe(path, is_a(status, path), "a folder belongs there")
        if self.descriptor is None:
            if status is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
            return Directory(path, None)
        return Directory(path, os.open(name, FOLDER_FLAGS | NO_FOLLOW, dir_fd=self.descriptor))

    def unlink(self, name: str) -> None:
        """Remove a name, if it is there."""
        with suppress(FileNotFoundError):
            os.unlink(self.locate(name), dir_fd=self.descriptor)

    def replace(self, name: str, content: bytes, mode: int = PRIVATE) -> None:
        """Give a name a small file that can be made again, whole or not at all. It is not synced. Raises `OSError`."""
        part = f".{name}.{os.getpid()}.part"
        self.unlink(part)
        try:
            self.make(part, content, mode)
            self.rename(part, name)
        finally:
            self.unlink(part)

    def rename(self, old: str, new: str) -> None:
        """Give a file the name of another, which goes (atomic). Raises `OSError`."""
        handle = self.descriptor
        os.replace(self.locate(old), self.locate(new), src_dir_fd=handle, dst_dir_fd=handle)

    def try_writing(self) -> None:
        """Make a small file, and remove it. Raises `OSError` where files cannot be made."""
        name = f".batchgen-trial.{secrets.token_hex(6)}"  # other runs and machines may try at the same time
        try:
            self.make(name, bytes(TRIAL_BYTES))
        finally:
            self.unlink(name)

    def move(self, old: str, new: str, folder: Directory | None = None) -> None:
        """Give a file another name that is free, here or in `folder`.

        Raises `FileExistsError` where it is not free, `OSError`.
        A link is made and the old name removed, because a rename would replace what is there. A file system without
        hard links gets an empty file first, which only one process can make; then the rename replaces that one.
        """
        folder = folder or self
        handles = {"src_dir_fd": self.descriptor, "dst_dir_fd": folder.descriptor}
        no_links = {} if self.descriptor is None else {"follow_symlinks": False}
        try:
            os.link(self.locate(old), folder.locate(new), **handles, **no_links)  # type: ignore[arg-type]
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            os.close(os.open(folder.locate(new), os.O_CREAT | os.O_EXCL | FLAGS, PRIVATE, dir_fd=folder.descriptor))
            os.replace(self.locate(old), folder.locate(new), **handles)  # noqa: PTH105  a Path has no handle
        else:
            self.unlink(old)

    def sync(self) -> None:
        """fsync the folder, for the names in it. Windows neither needs nor allows that."""
        if self.descriptor is not None:
            os.fsync(self.descriptor)


def open_directory(path: Path) -> Directory:
    """A folder that a person has named: it may be reached through links. Raises `OSError`."""
    return Directory(path, os.open(path, FOLDER_FLAGS) if HAS_HANDLES else None)


def open_below(root: Path, names: Iterable[str], *, create: bool = False, mode: int = 0o777) -> Directory:
    """A folder below `root`, opened part by part. Raises `UnsafePath`, `FileNotFoundError`, `OSError`."""
    directory = open_directory(root)
    for name in names:
        with directory:
            directory = directory.open_folder(name, create=create, mode=mode)
    return directory


def user_mode() -> int:
    """The permissions that a new file of this user gets."""
    umask = os.umask(0o077)  # it can be read only by setting it
    os.umask(umask)
    return 0o666 & ~umask


def set_mode(descriptor: int, mode: int) -> None:
    """Give an open file its permissions, where the system has them: Windows and FAT have none."""
    with suppress(AttributeError, PermissionError):
        os.fchmod(descriptor, mode)


def is_a(status: os.stat_result, path: Path) -> str:
    """What lies at a path, with the target where it is a link: "is a symbolic link to /etc/passwd"."""
    kind = KINDS.get(stat.S_IFMT(status.st_mode), "a file")
    if stat.S_ISLNK(status.st_mode):
        with suppress(OSError):
            return f"is {kind} to {ascii(str(path.readlink()))[1:-1]}"
    return f"is {kind}"


def unsafe(path: Path, fault: str, reason: str = "batchgen writes only a file of its own there") -> UnsafePath:
    return UnsafePath(f"{path}: {fault}; {reason}. Move it away, then run the same command")


def open_log(path: Path) -> int:
    """Open a log to append to it, as a descriptor. Raises `UnsafePath`, also for a file of another kind; `OSError`."""
    descriptor = Directory(path.parent, None).open(path.name, os.O_RDWR | os.O_APPEND | os.O_CREAT)
    head = os.read(descriptor, TRIAL_BYTES)
    if head and path.suffix != ".log" and not LOG_LINE.search(head):
        os.close(descriptor)
        raise UnsafePath(f"{path}: this is no log, and stays as it is. Name another one with --log-file")
    return descriptor


def judge_database(path: Path) -> None:
    """Raise `UnsafePath` if an SQLite database or one of its journals is not a file of ours.

    They are not opened here: POSIX drops a process's locks on a file when any descriptor of it is closed.
    """
    folder = Directory(path.parent, None)
    for suffix in DATABASE_SUFFIXES:
        if status := folder.stat(path.name + suffix):
            folder.check_safe(path.name + suffix, status)


def create_database(path: Path) -> None:
    """Make an empty private file where there is none; SQLite gives its journals the permissions of the database.

    Raises `StorageError`.
    """
    try:
        Directory(path.parent, None).make(path.name, b"")
    except FileExistsError:
        return
    except OSError as error:
        advice = "Let this user write into its folder, or name another table with --db"
        raise StorageError(f"{path}: the job table cannot be made: {os_reason(error)}. {advice}") from error
