"""The Range header of a request, as far as a download needs it: one range of bytes."""

from __future__ import annotations

import re
from dataclasses import dataclass

_RANGE = re.compile(r"bytes=(\d*)-(\d*)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Range:
    """Bytes `first` to `last`, both within."""

    first: int
    last: int

    def describe(self, size: int) -> str:
        """As Content-Range says it."""
        return f"bytes {self.first}-{self.last}/{size}"


@dataclass(frozen=True, slots=True)
class Unsatisfiable:
    """A range that begins behind the end."""


def requested(header: str | None, size: int) -> Range | Unsatisfiable | None:
    """The range asked for of a file of `size` bytes; `None`, the whole file, where the header says nothing readable."""
    found = _RANGE.fullmatch((header or "").replace(" ", ""))
    if not found or found.groups() == ("", ""):
        return None
    first, last = found.groups()
    if first == "":
        length = min(int(last), size)
        return Range(size - length, size - 1) if length else Unsatisfiable()
    if last and int(last) < int(first):
        return None
    return Range(int(first), min(int(last or size), size - 1)) if int(first) < size else Unsatisfiable()
