"""The text of a manifest, and what is wrong in it: every problem with its place, its line and a caret."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Protocol

from batchgen.errors import ManifestInvalid, Problem

SHOWN = 100
"""So many characters of a long line are shown around a problem."""
COUNTED = 10
"""So many further rows with the same mistake are named; the rest is counted."""
DATA = re.compile(r", not |: | the id | no model | written to ")
"""What follows these words in a message is a row's own data: the mistake is the same without it."""


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


class Origin(NamedTuple):
    """Which row, which cell of a matrix and which take a job was made from; empty for a job that stands for itself."""

    rows: str = ""
    """The name of the file."""
    line: int = 0
    axes: tuple[tuple[str, object], ...] = ()
    take: int = 0

    def __str__(self) -> str:
        row = f"{self.rows}:{self.line}" if self.rows else ""
        axes = (f"{name}={str(value)[:60]}" for name, value in self.axes)
        return ", ".join(filter(None, (row, *axes, f"take {self.take}" if self.take else "")))

    @property
    def brief(self) -> str:
        """The line alone, where that says which."""
        return str(self) if self.axes or self.take else str(self.line)


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
            raise ManifestInvalid([Problem(not_utf8(raw, error), path, line, column, SAVE_AS_UTF8)]) from None

    @cached_property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    def line(self, number: int) -> str:
        """One line of the text, without its end; empty where there is none."""
        return self.lines[number - 1] if number <= len(self.lines) else ""

    def excerpt(self, place: Place, label: str) -> str:
        """The line of `place` with a caret under it, and `label` beside the caret."""
        line = self.line(place.line)
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


@dataclass
class Found:
    """One problem, and the jobs that have it where several were made from one entry."""

    place: Place
    message: str
    label: str
    origin: Origin | None
    others: list[Origin] = field(default_factory=list)
    count: int = 0

    def told(self) -> str:
        """The message, with the first row or cell it is about and how many more there are."""
        where = str(self.origin or "")
        if self.count:
            rows = not any(origin.axes or origin.take for origin in (self.origin, *self.others) if origin)
            named = ", ".join(origin.brief for origin in self.others) if rows else ""
            more = f"{self.count:,} more {'row' if rows else 'job'}{'s' if self.count > 1 else ''}"
            tail = ", …" if self.count > len(self.others) else ""
            where = " ".join(filter(None, (where, f"and {more}{f': {named}{tail}' if named else ''}")))
        return f"{self.message} ({where})" if where else self.message


class Findings:
    """The problems found so far in one file; each is kept once, however often it is met."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._found: dict[tuple[object, str], Found] = {}
        self._beside: list[Findings] = []

    def beside(self, source: Source) -> Findings:
        """Findings in another file, told together with these."""
        self._beside.append(Findings(source))
        return self._beside[-1]

    def add(self, where: Place | Marked, message: str, label: str = "", origin: Origin | None = None) -> None:
        """Note one problem. `label` goes beside the caret: what to do about it.

        With an `origin`, the same mistake in other rows is counted with the first instead of told again.
        """
        place = where if isinstance(where, Place) else Place.of(where)
        plain, counted = (place, message), (place, alike(message))
        if origin is None or not str(origin):
            if counted not in self._found:
                self._found.setdefault(plain, Found(place, message, label, None))
            return
        self._count(plain if plain in self._found else counted, Found(place, message, label, origin))

    def add_row(self, origin: Origin, message: str, label: str = "", column: int = 1) -> None:
        """Note what is wrong with a row itself, at the row; the same in other rows is counted with it."""
        self._count(("row", alike(message)), Found(Place(origin.line, column, 0), message, label, None), origin)

    def _count(self, key: tuple[object, str], new: Found, origin: Origin | None = None) -> None:
        found = self._found.setdefault(key, new)
        if found is not new:
            found.count += 1
            another = origin or new.origin
            if another and len(found.others) < COUNTED:
                found.others.append(another)

    def __len__(self) -> int:
        return len(self._found) + sum(map(len, self._beside))

    def problems(self) -> list[Problem]:
        mine = [
            Problem(
                printable(found.told()),
                self.source.path,
                found.place.line,
                found.place.column,
                self.source.excerpt(found.place, printable(found.label)),
            )
            for found in self._found.values()
        ]
        return mine + [problem for other in self._beside for problem in other.problems()]


SAVE_AS_UTF8 = "save the file as UTF-8"


def not_utf8(raw: bytes, error: UnicodeDecodeError) -> str:
    """What to say of a file that begins with `raw`, of which `error` was raised."""
    return (
        "the file is UTF-16"
        if raw.startswith((b"\xff\xfe", b"\xfe\xff"))
        else f"byte 0x{error.object[error.start]:02x} is not UTF-8"
    )


def alike(message: str) -> str:
    """The part of a message that is the same for every row with the same mistake."""
    return DATA.split(message, maxsplit=1)[0]


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
