"""The text of a manifest, and what is wrong in it: every problem with its place, its line and a caret."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Protocol

from batchgen.errors import ManifestInvalid, Problem

SHOWN = 100
"""So many characters of a long line are shown around a problem."""


class Mark(Protocol):
    """A place in the text as the YAML parser gives it; counts from 0."""

    line: int
    column: int


class Marked(Protocol):
    """Anything that has a beginning and an end in the text."""

    @property
    def start_mark(self) -> Mark: ...
    @property
    def end_mark(self) -> Mark: ...


class Place(NamedTuple):
    """Where something stands: line and column count from 1, `width` characters on that line (0: to its end)."""

    line: int
    column: int
    width: int = 1

    @classmethod
    def of(cls, marked: Marked) -> Place:
        start, end = marked.start_mark, marked.end_mark
        return cls(start.line + 1, start.column + 1, max(end.column - start.column, 1) if start.line == end.line else 0)


@dataclass(frozen=True)
class Source:
    """A manifest's text and where it came from. `path` is as the user wrote it."""

    path: Path
    text: str

    @classmethod
    def decode(cls, path: Path, raw: bytes) -> Source:
        """Raises ManifestInvalid for bytes that are not UTF-8; a byte order mark is taken away."""
        try:
            return cls(path, raw.decode("utf-8-sig"))
        except UnicodeDecodeError as error:
            before = raw[: error.start]
            line, column = before.count(b"\n") + 1, len(before.rpartition(b"\n")[2].decode("utf-8", "replace")) + 1
            wide = raw.startswith((b"\xff\xfe", b"\xfe\xff"))
            message = "the file is UTF-16" if wide else f"byte 0x{raw[error.start]:02x} is not UTF-8"
            raise ManifestInvalid([Problem(message, path, line, column, "save the file as UTF-8")]) from None

    @cached_property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    def excerpt(self, place: Place, label: str) -> str:
        """The line of `place` with a caret under it, and `label` beside the caret."""
        line = self.lines[place.line - 1] if place.line <= len(self.lines) else ""
        column = min(place.column - 1, len(line))
        width = place.width or len(line.rstrip()) - column
        first = max(column - SHOWN // 2, 0) if len(line) > SHOWN else 0
        before, marked, after = line[first:column], line[column : column + width], line[column + width :]
        left = ("…" if first else "") + printable(before)
        body, rest = printable(marked[:SHOWN]), printable(after[: max(SHOWN - len(before) - len(marked), 0)])
        cut = "…" if first + SHOWN < len(line) else ""
        gutter = max(4, len(str(place.line)))
        under = f"{' ' * columns(left)}{'^' * max(columns(body), 1)} {label}".rstrip()
        return f"{place.line:>{gutter}} | {left}{body}{rest}{cut}\n{'':>{gutter}} | {under}"


class Findings:
    """The problems found so far; each is kept once, however often it is met."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._found: dict[tuple[Place, str], str] = {}

    def add(self, where: Place | Marked, message: str, label: str = "") -> None:
        """Note one problem. `label` goes beside the caret: what to do about it."""
        place = where if isinstance(where, Place) else Place.of(where)
        self._found.setdefault((place, message), label)

    def __len__(self) -> int:
        return len(self._found)

    def problems(self) -> list[Problem]:
        return [
            Problem(
                printable(message),
                self.source.path,
                place.line,
                place.column,
                self.source.excerpt(place, printable(label)),
            )
            for (place, message), label in self._found.items()
        ]


def printable(text: str) -> str:
    """`text` with everything that could move a cursor or colour a terminal spelt out; a tab becomes a space."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else " " if char == "\t" else char.encode("unicode_escape").decode() for char in text
    )


def columns(text: str) -> int:
    """How many columns of a terminal `text` takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )
