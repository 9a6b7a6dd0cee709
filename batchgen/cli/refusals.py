"""What the system refuses to any command: a path, memory, threads. No command need expect it, and it is no defect."""

from __future__ import annotations

import errno
import sys

from batchgen.errors import NO_DESCRIPTORS, BatchgenError, StorageError, UsageError, os_reason
from batchgen.report.terminal import discard, unwritable

PATH_ADVICE = {
    **dict.fromkeys((errno.EACCES, errno.EPERM), "Let this user read it and enter its folder, or name another path"),
    errno.ENAMETOOLONG: "Name a shorter path",
    **dict.fromkeys((errno.EIO, errno.ESTALE, errno.ENOTCONN), "Check the disk or the network drive, and try again"),
    # Of a store, too, whose own words say what is to be done.
    **dict.fromkeys((*NO_DESCRIPTORS, errno.ECONNREFUSED), "Then type the same command again"),
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "Free some disk, and type the same command again"),
    errno.EROFS: "Name a path on a disk that may be written",
    errno.ELOOP: "Its links lead in a circle: name the file itself",
}
"""What a person does about a path that the system refuses, by the error number."""

NO_THREAD = "can't start new thread"
NOT_MAPPED = ("failed to map segment", "cannot allocate memory", "Cannot allocate memory")
"""How Python and the loader of libraries say that there is no memory, in exceptions without a number."""


def refused(error: Exception) -> BatchgenError | None:
    """What to say of what the system refuses to any command; None for every other exception."""
    if is_out_of_memory(error):
        return StorageError(
            "this machine gives batchgen no more memory or threads. End other programs, or raise what this shell allows"
            " (ulimit -v, ulimit -u); what was sent is in the job table, and the same command goes on"
        )
    if not isinstance(error, OSError) or error.errno not in PATH_ADVICE:
        return None
    if error.filename is None and error.errno in (errno.ENOSPC, errno.EIO):  # of standard output: --help >/dev/full
        discard(sys.stdout)
        return unwritable(error)
    if error.filename is None and error.errno not in NO_DESCRIPTORS:
        return None
    place = "" if error.filename is None else f"{str(error.filename)[:200]}: "
    kind = UsageError if error.errno in (errno.ENAMETOOLONG, errno.ELOOP) else StorageError
    return kind(f"{place}{os_reason(error)}. {PATH_ADVICE[error.errno]}")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the system has refused memory, or a thread with its stack."""
    if isinstance(error, BaseExceptionGroup):
        return any(map(is_out_of_memory, error.exceptions))
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    is_module = isinstance(error, ImportError) and any(words in str(error) for words in NOT_MAPPED)
    return isinstance(error, MemoryError) or is_module or (isinstance(error, RuntimeError) and NO_THREAD in str(error))
