"""The rows of a query as text: a table for people, CSV and JSON lines for programs. None of it can control a terminal.

Rows are written while they are read, so that a result of any size needs little memory.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from itertools import islice
from typing import Any

from rich.cells import cell_len, set_cell_size

from batchgen.errors import UsageError
from batchgen.jobtable.columns import plain
from batchgen.report.terminal import print_lines, print_text
from batchgen.report.words import plural
from batchgen.services.text import visible, visible_json

Row = Sequence[Any]

STORED_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.\d{6}Z")
"""A time as SQLite stores it. In a table, a person is shown whole seconds."""
NARROWEST = 12  # characters that are left of a shortened cell: the beginning of an id or of a sentence
ROWS_MIN = 20  # shown on the lowest terminal, which can scroll
MEASURED_ROWS = 1_000  # by which the columns of a table are aligned where no terminal bounds it
GAP = "  "


def print_table(columns: Sequence[str], rows: Iterator[Row]) -> None:
    """All rows, aligned by the first thousand."""
    first = [cells(row) for row in islice(rows, MEASURED_ROWS)]
    widths = widths_of(columns, first)
    print_lines(*aligned(columns, first, widths))
    for row in rows:
        print_lines(padded(cells(row), widths))


def print_screen(columns: Sequence[str], rows: Iterator[Row], width: int, height: int) -> None:
    """The rows that fit on a terminal of this many characters and lines, and how many there are.

    Where even shortened cells do not fit beside one another, a row is a block of lines, as in psql's expanded display.
    """
    first = [[short_time(cell) for cell in cells(row)] for row in islice(rows, max(height - 4, ROWS_MIN))]
    if widths := fitted(columns, widths_of(columns, first), width):
        shown = len(first)
        short = [[shortened(*cell) for cell in zip(row, widths, strict=True)] for row in first]
        print_lines(*aligned(columns, short, widths))
    else:
        shown = min(max(1, height // (len(columns) + 1)), len(first))
        for number, row in enumerate(first[:shown], 1):
            print_lines(*block(number, columns, row, width))
    print_lines(count_line(shown, len(first), rows), err=True)


def print_csv(columns: Sequence[str], rows: Iterator[Row]) -> None:
    """CSV (RFC 4180) with a line of names; NULL is an empty field."""
    print_text(csv_line(columns))
    for row in rows:
        print_text(csv_line([text_of(value) for value in row]))


def print_json_lines(columns: Sequence[str], rows: Iterator[Row]) -> None:
    """One JSON object for each row. The second of two columns with the same name gets a number: `id`, `id_2`."""
    names = [name if name not in columns[:place] else f"{name}_{place + 1}" for place, name in enumerate(columns)]
    for row in rows:
        document = {name: json_value(value) for name, value in zip(names, row, strict=True)}
        print_text(visible_json(json.dumps(document, ensure_ascii=False, default=text_of)) + "\n")


def text_of(value: object) -> str:
    """A value as text, the same from SQLite and from PostgreSQL."""
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case float():
            return f"{value:.15g}"  # as SQLite's own shell: more digits show only how binary numbers are rounded
        case Decimal():
            return plain(value) if value.is_finite() else str(value)
        case datetime(tzinfo=zone) if zone:
            return f"{value.astimezone(UTC).isoformat(timespec='microseconds')[:-6]}Z"
        case bytes() | memoryview():
            return f"x'{bytes(value).hex()}'"
    return str(value)


def json_value(value: object) -> object:
    """A value for JSON: numbers are numbers, money too; what JSON has no type for is text."""
    if isinstance(value, float | Decimal):
        return float(text_of(value)) if math.isfinite(value) else text_of(value)
    return value


def cells(row: Row) -> list[str]:
    """A row as texts of one line each."""
    return [visible(text_of(value)) for value in row]


def csv_line(fields: Sequence[str]) -> str:
    """A record with its line break. Characters that control a terminal are escaped; line breaks within a field stay."""
    written = io.StringIO()
    harmless = ["\n".join("\t".join(map(visible, part.split("\t"))) for part in field.split("\n")) for field in fields]
    csv.writer(written, lineterminator="\n").writerow(harmless)
    return written.getvalue()


def short_time(cell: str) -> str:
    return f"{match[1]}Z" if (match := STORED_TIME.fullmatch(cell)) else cell


def widths_of(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[int]:
    """How many characters of a terminal each column needs."""
    return [max(map(cell_len, column)) for column in zip(columns, *rows, strict=True)]


def fitted(columns: Sequence[str], widths: Sequence[int], most: int) -> list[int] | None:
    """The widths, the widest made smaller until all fit into `most`; None where cells would become unreadable."""
    fitting = list(widths)
    while (excess := sum(fitting) + len(GAP) * (len(fitting) - 1) - most) > 0:
        widest = max(range(len(fitting)), key=fitting.__getitem__)
        second = max([width for width in fitting if width < fitting[widest]], default=0)
        fitting[widest] -= min(excess, max(1, fitting[widest] - second))
        if fitting[widest] < max(NARROWEST, cell_len(columns[widest])):
            return None
    return fitting


def aligned(columns: Sequence[str], rows: Iterable[Sequence[str]], widths: Sequence[int]) -> Iterator[str]:
    """The lines of a table with its head."""
    yield padded(columns, widths)
    yield padded(["-" * width for width in widths], widths)
    for row in rows:
        yield padded(row, widths)


def block(number: int, columns: Sequence[str], row: Sequence[str], width: int) -> Iterator[str]:
    """The lines of one row, a column on each."""
    names = max(map(cell_len, columns))
    rest = max(width - names - len(GAP), NARROWEST)
    yield f"-- row {number} ".ljust(min(width, 40), "-")
    for name, cell in zip(columns, row, strict=True):
        yield padded([name, shortened(cell, rest)], [names, 0])


def padded(row: Sequence[str], widths: Sequence[int]) -> str:
    """One line."""
    texts = [cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True)]
    return GAP.join(texts).rstrip()


def shortened(cell: str, width: int) -> str:
    return cell if cell_len(cell) <= width else set_cell_size(cell, width - 1).rstrip() + "…"


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
