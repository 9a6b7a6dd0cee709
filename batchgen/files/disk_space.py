"""Bounds of a download: the largest file, and a reserve of free disk that is left to the job table."""

from __future__ import annotations

import errno
import shutil
import sys
from pathlib import Path

from rich.filesize import decimal

FILE_BYTES_MAX = 16 << 30  # of one video: an hour of 4K at 35 Mbit/s; a body without an end stops here
RESERVE_BYTES = 256 << 20  # of free disk that no download takes: the job table and its journal must be able to grow
RESERVE_SHARE = 20  # of a small disk, a twentieth is kept instead
SCARCE = 2  # times the reserve: with less free, the disk is full for every download, and not too small for a large one
NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})
DISK_ERRORS = {
    **dict.fromkeys(NO_SPACE, "free some disk"),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), "let it be written"),
    errno.EIO: "check the disk or the network drive",
    errno.ECONNREFUSED: "",
}
"""Errors that the next file would meet as well, and what a person does about each; a store says it itself."""
FILE_ERRORS = {
    errno.EFBIG: "this disk takes no larger file (FAT32 ends at 4 GB), or a limit of this user does not (ulimit -f)",
    **dict.fromkeys((errno.ENAMETOOLONG, errno.EINVAL, errno.ENOTDIR, errno.EISDIR, errno.ELOOP), ""),
}
"""Errors that the next file need not meet, with an explanation where the system's own words lead astray."""


class DiskFull(OSError):
    """A download would take the reserve of free disk."""

    def __init__(self, message: str) -> None:
        super().__init__(errno.ENOSPC, message)


def check_space(place: int | Path, size: int) -> None:
    """Raise `DiskFull` if `size` bytes more would take the reserve of the disk that a file or folder is on."""
    free, reserve = free_and_reserve(place)
    if free - size < reserve:
        raise DiskFull(
            f"the disk is full: {decimal(free)} are free, of which {decimal(reserve)} are kept for the job table,"
            f" and {decimal(size)} more are needed"
        )


def shortage(place: int | Path, times: int = SCARCE) -> str:
    """How little there is for downloads, in words; "" where so many times the reserve are free."""
    free, reserve = free_and_reserve(place)
    if free >= times * reserve:
        return ""
    return f"{decimal(free)} are free, and {decimal(reserve)} are kept free for the job table"


def free_and_reserve(place: int | Path) -> tuple[int, int]:
    """The bytes that are free, and how many of them are kept."""
    usage = shutil.disk_usage(place)
    if not usage.total:  # some network file systems do not say
        return sys.maxsize, 0
    return usage.free, min(RESERVE_BYTES, usage.total // RESERVE_SHARE)
