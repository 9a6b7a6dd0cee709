"""The rows of a query as text: a table for people, CSV and JSON lines for programs. None of it can control a terminal.

Rows are written while they are read, so that a result of any size needs little memory.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from rich.cells import cell_len, set_cell_size

from batchgen.catalogue.amounts import amount_text
from batchgen.catalogue.wording import plural
from batchgen.errors import UsageError
from batchgen.report.terminal import print_lines, print_text
from batchgen.services.text import visible, visible_json

Row = Sequence[Any]

STORED_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.\d{6}Z")
"""A time as SQLite stores it. In a table, a person is shown whole seconds."""
NARROWEST = 12  # characters that are left of a shortened cell: the beginning of an id or of a sentence
ROWS_MIN = 20  # shown on the lowest terminal, which can scroll
MEASURED_ROWS = 1_000  # by which the columns of a table are aligned where no terminal bounds it
ROWS_AT_ONCE = 500  # written by one call of the operating system
CHARS_AT_ONCE = 1_000_000  # of texts in them: a request with images in it has megabytes
SHELL_END = "\n"  # of a record that the next program of a pipe reads by lines
GAP = "  "
FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")
"""A cell that begins with one of them is a formula for a spreadsheet, which may send data away (CSV injection)."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of a table: how wide each is, and whether it has numbers only, which stand on the right."""

    names: Sequence[str]
    widths: Sequence[int]
    is_number: Sequence[bool]

    @classmethod
    def of(cls, names: Sequence[str], rows: Sequence[Row], texts: Sequence[Sequence[str]]) -> Layout:
        """The layout in which all of these rows fit."""
        widths = [max(map(cell_len, column)) for column in zip(names, *texts, strict=True)]
        numbers = [
            all(isinstance(value, int | float | Decimal | None) for value in column)
            for column in zip(*rows, strict=True)
        ]
        return cls(names, widths, numbers or [False] * len(names))

    def head(self) -> list[str]:
        return [self.line(self.names), self.line(["-" * width for width in self.widths])]

    def line(self, texts: Sequence[str]) -> str:
        """One row. Only a terminal shortens what is longer than its column."""
        padded = []
        for text, width, is_number in zip(texts, self.widths, self.is_number, strict=True):
            blanks = " " * (width - cell_len(text))
            padded.append(blanks + text if is_number else text + blanks)
        return GAP.join(padded).rstrip()

    def fitted(self, most: int) -> Layout | None:
        """The same, with the widest columns made smaller until all fit; None where they would become unreadable."""
        widths = list(self.widths)
        while (excess := sum(widths) + len(GAP) * (len(widths) - 1) - most) > 0:
            widest = max(range(len(widths)), key=widths.__getitem__)
            second = max((width for width in widths if width < widths[widest]), default=0)
            widths[widest] -= min(excess, max(1, widths[widest] - second))
            if widths[widest] < max(NARROWEST, cell_len(self.names[widest])):
                return None
        return replace(self, widths=widths)


def print_table(names: Sequence[str], rows: Iterator[Row]) -> None:
    """All rows, aligned by the first thousand, or by fewer long ones."""
    first = next(chunks(rows, MEASURED_ROWS), [])
    texts = [texts_of(row) for row in first]
    layout = Layout.of(names, first, texts)
    print_lines(*layout.head(), *map(layout.line, texts))
    for row in rows:
        print_lines(layout.line(texts_of(row)))


def print_screen(names: Sequence[str], rows: Iterator[Row], width: int, height: int) -> None:
    """The rows that fit on a terminal of this many characters and lines, and how many there are.

    Where even shortened cells do not fit beside one another, a row is a block of lines, as in psql's expanded display.
    """
    first = next(chunks(rows, max(height - 4, ROWS_MIN)), [])
    texts = [[short_time(text) for text in texts_of(row)] for row in first]
    shown = len(first)
    if layout := Layout.of(names, first, texts).fitted(width):
        print_lines(*layout.head())
        print_lines(*(layout.line(list(map(cut_to_width, row, layout.widths))) for row in texts))
    else:
        shown = min(max(1, height // (len(names) + 1)), len(first))
        for number, row in enumerate(texts[:shown], 1):
            print_lines(*block(number, names, row, width))
    print_lines(count_line(shown, len(first), rows), err=True)


def print_csv(names: Sequence[str], rows: Iterator[Row]) -> None:
    """CSV (RFC 4180) with a line of names; NULL is an empty field."""
    print_text(csv_lines([names], SHELL_END))
    for chunk in chunks(rows):
        print_text(csv_lines([map(cell_text, row) for row in chunk], SHELL_END))


def print_json_lines(names: Sequence[str], rows: Iterator[Row]) -> None:
    """One JSON object for each row. The second of two columns with the same name gets a number: `id`, `id_2`."""
    keys = [name if name not in names[:place] else f"{name}_{place + 1}" for place, name in enumerate(names)]
    for chunk in chunks(rows):
        print_text("".join(f"{json_line(dict(zip(keys, row, strict=True)))}\n" for row in chunk))


def chunks(rows: Iterator[Row], most: int = ROWS_AT_ONCE, chars_most: int = CHARS_AT_ONCE) -> Iterator[list[Row]]:
    """Some rows at a time, at most so many, and fewer where their texts are long: all of them are in memory at once."""
    chunk: list[Row] = []
    chars = 0
    for row in rows:
        chunk.append(row)
        chars += sum(len(value) for value in row if isinstance(value, str | bytes))
        if len(chunk) >= most or chars >= chars_most:
            yield chunk
            chunk, chars = [], 0
    if chunk:
        yield chunk


def cell_text(value: object) -> str:
    """A value as text, the same from SQLite and from PostgreSQL."""
    match value:
        case str():
            return value
        case None:
            return ""
        case bool():
            return str(value).lower()
        case float():
            return f"{value:.15g}"  # as SQLite's own shell: more digits show only how binary numbers are rounded
        case Decimal():
            return amount_text(value) if value.is_finite() else str(value)
        case datetime(tzinfo=zone) if zone:
            return f"{value.astimezone(UTC).isoformat(timespec='microseconds')[:-6]}Z"
        case dict() | list():
            return json.dumps(value, ensure_ascii=False, default=str)
        case bytes() | memoryview():
            return f"x'{bytes(value).hex()}'"
    return str(value)


def json_line(record: Mapping[str, object]) -> str:
    """A record as one line of JSON, which cannot control a terminal."""
    values = {name: json_value(value) for name, value in record.items()}
    return visible_json(json.dumps(values, ensure_ascii=False, default=cell_text))


def json_value(value: object) -> object:
    """A value for JSON: numbers are numbers, money too; what JSON has no type for is text."""
    if isinstance(value, float | Decimal):
        return float(cell_text(value)) if math.isfinite(value) else cell_text(value)
    return value


def texts_of(row: Row) -> list[str]:
    """A row as texts of one line each."""
    return [visible(cell_text(value)) for value in row]


def csv_lines(rows: Iterable[Iterable[str]], end: str = "\r\n") -> str:
    """Records of CSV (RFC 4180), in which every field is exact."""
    written = io.StringIO(newline="")
    csv.writer(written, lineterminator=end).writerows(rows)
    return written.getvalue()


def inert(text: str) -> str:
    """A text of a table for spreadsheets: an apostrophe before what they would calculate."""
    return f"'{text}" if text.startswith(FORMULA_SIGNS) else text


def short_time(text: str) -> str:
    return f"{match[1]}Z" if (match := STORED_TIME.fullmatch(text)) else text


def block(number: int, names: Sequence[str], row: Sequence[str], width: int) -> Iterator[str]:
    indent = max(map(cell_len, names)) + len(GAP)
    yield f"-- row {number} ".ljust(min(width, 40), "-")
    for name, text in zip(names, row, strict=True):
        yield f"{name}{' ' * (indent - cell_len(name))}{cut_to_width(text, max(width - indent, NARROWEST))}".rstrip()


def cut_to_width(text: str, width: int) -> str:
    return text if cell_len(text) <= width else set_cell_size(text, width - 1).rstrip() + "…"


def count_line(shown: int, taken: int, rows: Iterator[Row]) -> str:
    """How many rows there are, of which `shown` are on the terminal and `taken` were read."""
    try:
        number = taken + sum(1 for _ in rows)
    except UsageError:  # counting takes too long; what was asked for is there
        return f"the first {shown} rows of more than {taken:,}; --csv or --json writes all of them"
    if number == shown:
        return plural(number, "row")
    first = f"the first {shown}" if shown > 1 else "the first"
    return f"{first} of {number:,} rows; --csv or --json writes all of them"
