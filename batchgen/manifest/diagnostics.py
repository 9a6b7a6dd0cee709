"""Collects what is wrong in a manifest, each diagnostic at its position.

When many rows of a table have the same mistake, one diagnostic counts them all.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple

from batchgen.catalogue.written import shown
from batchgen.errors import SHOWN_PROBLEMS, Problem
from batchgen.files.input_file import InputFault
from batchgen.manifest import bounds
from batchgen.manifest.source import Marked, Position, SourceText, printable

NAMED = 10
"""At most so many further rows with the same mistake are named; more are only counted."""
VARYING = re.compile(r", not |: | the id | no model | written to ")
"""In a message, the text after one of these differs from row to row, though the mistake is the same."""


class Origin(NamedTuple):
    """The row, the cell of a matrix and the take that a job was made from. Empty for a job without any."""

    rows: str = ""
    """The name of the file of rows."""
    line: int = 0
    axes: tuple[tuple[str, object], ...] = ()
    take: int = 0

    def __bool__(self) -> bool:
        return bool(self.rows or self.axes or self.take)

    def __str__(self) -> str:
        row = f"{self.rows}:{self.line}" if self.rows else ""
        axes = (f"{name}={shown(value)[:60]}" for name, value in self.axes)
        return ", ".join(filter(None, (row, *axes, f"take {self.take}" if self.take else "")))


@dataclass
class Diagnostic:
    """One problem. `others` are the origins of further jobs with the same one, `count` is their number."""

    position: Position
    message: str
    hint: str
    origin: Origin | None
    others: list[Origin] = field(default_factory=list)
    count: int = 0

    def text(self) -> str:
        """The message, the first row or cell that it is about, and how many more there are."""
        where = str(self.origin or "")
        if self.count:
            only_rows = not any(origin.axes or origin.take for origin in (self.origin, *self.others) if origin)
            lines = ", ".join(str(origin.line) for origin in self.others) if only_rows else ""
            more = f"and {self.count:,} more {'row' if only_rows else 'job'}{'s' if self.count > 1 else ''}"
            if lines:
                more += f": {lines}{', …' if self.count > len(self.others) else ''}"
            where = f"{where} {more}".strip()
        message = self.message[: bounds.MESSAGE_CHARS]
        return f"{message} ({where})" if where else message

    def line(self) -> str:
        """Line, column, message and hint, as a warning has them."""
        place = f"{self.position.line}:{self.position.column}"
        return f"{place}: {'; '.join(filter(None, (self.text(), self.hint)))}"


class ReadingStopped(Exception):
    """The rest of a text cannot be read. The reason is among the diagnostics."""


class ReadingEnded(InputFault):
    """The rest of a batch is not worth reading, or does not fit into memory."""


class Diagnostics:
    """The diagnostics of one file and of the files of rows that it names. The same one is kept once.

    Adding one raises `ReadingEnded` beyond `bounds.PROBLEMS` different or `bounds.REPORTS` equal ones.
    """

    def __init__(self, source: SourceText) -> None:
        self.source = source
        self._diagnostics: dict[tuple[object, str], Diagnostic] = {}
        self._of_rows: list[Diagnostics] = []
        self._reports = 0
        self._warnings: dict[tuple[object, str], Diagnostic] = {}

    def of_rows(self, source: SourceText) -> Diagnostics:
        """Diagnostics for a file of rows; they count as diagnostics of this file."""
        self._of_rows.append(Diagnostics(source))
        return self._of_rows[-1]

    def add(self, where: Position | Marked, message: str, hint: str = "", origin: Origin | None = None) -> None:
        """Add a diagnostic; `hint` says what to do. The same mistake of another `origin` is only counted."""
        position = Position.of(where)
        exact, similar = (position, message), (position, shared_part(message))
        kept = (key for key in (exact, similar) if key in self._diagnostics)
        self._add(next(kept, similar if origin else exact), Diagnostic(position, message, hint, origin), origin)

    def warn(self, where: Position | Marked, message: str, hint: str = "", origin: Origin | None = None) -> None:
        """Add a warning: the manifest stays valid. The same one of another `origin` is only counted.

        Beyond `bounds.PROBLEMS` different ones there are no more.
        """
        position = Position.of(where)
        key = position, shared_part(message) if origin else message
        if key in self._warnings or len(self._warnings) < bounds.PROBLEMS:
            count(self._warnings, key, Diagnostic(position, message, hint, origin), origin)

    def warnings(self) -> list[str]:
        """The warnings, each as one line with its place, in the order of the file."""
        ordered = sorted(self._warnings.values(), key=lambda warning: warning.position)
        return [printable(f"{self.source.path}:{warning.line()}") for warning in ordered]

    def add_row(self, origin: Origin, message: str, hint: str = "", column: int = 1) -> None:
        """Add a diagnostic of a row itself, in the file of rows. The same mistake of other rows is only counted."""
        diagnostic = Diagnostic(Position(origin.line, column, 0), message, hint, None)
        self._add(("row", shared_part(message)), diagnostic, origin)

    def _add(self, key: tuple[object, str], new: Diagnostic, origin: Origin | None) -> None:
        count(self._diagnostics, key, new, origin)
        self._reports += 1
        if self._reports >= bounds.REPORTS or len(self._diagnostics) >= bounds.PROBLEMS:
            message = "the manifest has so many problems that the rest of it was not read"
            raise ReadingEnded(message, "mend those below first")

    def __len__(self) -> int:
        return len(self._diagnostics) + sum(map(len, self._of_rows))

    def problems(self) -> list[Problem]:
        """All of them in the order of the file. Those that no message will show come without their line."""
        ordered = sorted(self._diagnostics.values(), key=lambda diagnostic: diagnostic.position)
        own = [self._problem(diagnostic, number <= SHOWN_PROBLEMS) for number, diagnostic in enumerate(ordered, 1)]
        return own + [problem for rows in self._of_rows for problem in rows.problems()]

    def _problem(self, diagnostic: Diagnostic, with_line: bool) -> Problem:
        position, hint = diagnostic.position, printable(diagnostic.hint[: bounds.MESSAGE_CHARS])
        excerpt = self.source.excerpt(position, hint) if with_line else hint
        return Problem(printable(diagnostic.text()), self.source.path, position.line, position.column, excerpt)


class Location(NamedTuple):
    """Where a job, or a value of it, is written: the file, the position there, and the job's origin."""

    diagnostics: Diagnostics
    position: Position
    origin: Origin | None = None

    def report(self, message: str, hint: str = "") -> None:
        self.diagnostics.add(self.position, message, hint, self.origin)

    def seen_from(self, other: Location) -> str:
        """This location in words, for a message at the `other`: "on line 3", "at b.yaml:3"."""
        source = self.diagnostics.source
        in_another_file = source is not other.diagnostics.source
        line = f"at {source.path}:{self.position.line}" if in_another_file else f"on line {self.position.line}"
        return f"{line} ({self.origin})" if self.origin else line


def count(
    diagnostics: dict[tuple[object, str], Diagnostic], key: tuple[object, str], new: Diagnostic, origin: Origin | None
) -> None:
    """Add a diagnostic, or count its `origin` in the one that its key has already."""
    first = diagnostics.setdefault(key, new)
    if first is not new and origin:
        first.count += 1
        if len(first.others) < NAMED:
            first.others.append(origin)


def shared_part(message: str) -> str:
    """The part of a message that is the same for all rows with the same mistake."""
    return VARYING.split(message, maxsplit=1)[0]
