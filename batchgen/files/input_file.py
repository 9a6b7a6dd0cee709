"""Reads the files that a manifest names: regular files of a bounded size, whatever lies under the name.

A FIFO without a writer would block for ever, a device has no end, and a sparse file is larger than memory.
"""

import os
import stat
from io import BufferedReader
from pathlib import Path

FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
"""O_NONBLOCK: the file may have become a FIFO after it was judged."""


class InputFault(Exception):
    """Input that cannot be read: a file, or those of a pattern. `str(error)` says why, `hint` perhaps what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def open_input(path: Path, most: int, noun: str = "file") -> BufferedReader:
    """Open a regular file of at most `most` bytes, which messages call `noun`.

    Raises `InputFault`, and `OSError` where it cannot be opened.
    """
    check_file(path.stat(), most, noun)  # before it is opened, because opening some devices has an effect
    descriptor = os.open(path, FLAGS)
    try:
        check_file(os.fstat(descriptor), most, noun)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_input(path: Path, most: int, noun: str = "file") -> bytes:
    """The content of a regular file of at most `most` bytes. Raises `InputFault` and `OSError`."""
    with open_input(path, most, noun) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise InputFault(f"the file has grown beyond {size_in_words(most)}")
    return content


def check_file(status: os.stat_result, most: int, noun: str) -> None:
    """Raises `InputFault` for a file that is not regular or has more than `most` bytes."""
    if stat.S_ISDIR(status.st_mode):
        raise InputFault(f"this is a folder, not {'an' if noun[0] in 'aeiou' else 'a'} {noun}")
    if not stat.S_ISREG(status.st_mode):
        raise InputFault("this is not a regular file")
    if status.st_size > most:
        raise InputFault(f"the file has {size_in_words(status.st_size)}; at most {size_in_words(most)} are allowed")


def size_in_words(size: int) -> str:
    return f"{size / 1e6:,.0f} MB" if size >= 1e6 else f"{size:,} bytes"
