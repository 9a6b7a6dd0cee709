"""A lock on an open file: the system releases it when its holder closes it, or dies in any way.

`flock` on POSIX, `msvcrt.locking` on Windows. The libraries that lock files take a path, which they open themselves:
they would follow what `safe_open.py` refuses.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from batchgen.files.safe_open import Directory

LOCKED_BYTE = 1 << 30  # on Windows a locked byte cannot be read by others, so it lies behind any content


def try_lock(descriptor: int) -> bool:
    """Lock a file without waiting; False where it is locked. Raises `OSError` where the file system has no locks."""
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(descriptor, LOCKED_BYTE, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def is_own(directory: Directory, name: str, descriptor: int) -> bool:
    """Lock a file that was just opened. False if another process has it, or has placed or removed it meanwhile."""
    with suppress(OSError):  # Some file systems have no locks. The lease of the job keeps other runs out.
        if not try_lock(descriptor):
            return False
    return directory.has(name, descriptor)
