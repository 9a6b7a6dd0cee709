"""Reads the rows of a CSV or JSONL file one at a time: each is a mapping of names to values."""

import codecs
import csv
import io
import json
import math
import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from batchgen.manifest import bounds
from batchgen.manifest.diagnostics import Diagnostics, Origin
from batchgen.manifest.job_keys import NAME
from batchgen.manifest.nodes import MAX_DEPTH
from batchgen.manifest.source import SAVE_AS_UTF8, InvalidValue, Position, SourceText, read_bytes

SUFFIXES = (".csv", ".jsonl")
LONGEST_INTEGER = 19
"""Digits of a whole number in JSON: more do not fit into 64 bits."""

Row = tuple[int, dict[str, Any]]
"""The line that a row begins on, and its values by name."""


class RowsText(SourceText):
    """The text of a file of rows, kept as bytes and decoded line by line: as text it could take four times the memory.

    Other than in YAML, only a line feed ends a line.
    """

    def __init__(self, path: Path, raw: bytes) -> None:
        super().__init__(path, b"")
        self.raw = raw.removeprefix(codecs.BOM_UTF8)
        self._line = 1, 0
        """The number and the beginning of the line that was looked up last."""

    def line(self, number: int) -> str:
        first, start = self._line if self._line[0] <= number else (1, 0)
        for _ in range(number - first):
            start = self.raw.find(b"\n", start) + 1
            if not start:
                return ""
        self._line = number, start
        end = self.raw.find(b"\n", start, start + bounds.LINE_CHARS)
        return self.raw[start : end if end >= 0 else start + bounds.LINE_CHARS].decode(errors="replace").rstrip("\r")


class ReadingStopped(Exception):
    """The rows from here on cannot be read. The reason is among the diagnostics."""


class RowsFile:
    """A file of rows. Its text stays in memory, for excerpts."""

    def __init__(self, path: Path, shown: Path, axes: Collection[str], diagnostics: Diagnostics) -> None:
        """`shown` is the path for messages; a column may not have the name of one of the `axes`.

        Raises InvalidValue where the file cannot be read; what is wrong in its text is reported.
        """
        self.suffix = path.suffix.lower()
        if self.suffix not in SUFFIXES:
            raise InvalidValue(f"`rows` are read from {' and '.join(SUFFIXES)} files", "one row a line")
        self.name = shown.name
        self.axes = frozenset(axes)
        raw = read_bytes(path, "file", "there is no such file beside the manifest", bounds.ROWS_BYTES)
        source = RowsText(shown, raw)
        self.diagnostics = diagnostics.of_rows(source)
        if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            self.diagnostics.add(Position(1, 1, 0), "the file is UTF-16", SAVE_AS_UTF8)
        self.raw = source.raw
        self.row_chars = 0
        """The length of the current row so far; a quoted field may have line ends in it."""

    def __iter__(self) -> Iterator[Row]:
        """The rows in the order of the file. A row with a mistake is reported and left out."""
        empty = True
        try:
            for row in self._csv() if self.suffix == ".csv" else self._jsonl():
                if empty and not self.axes.isdisjoint(row[1]):
                    name = min(self.axes & row[1].keys())
                    self.stop(row[0], f"`{name}` is the name of a matrix as well as of a column", "rename one")
                empty = False
                yield row
        except ReadingStopped:
            return
        if empty and not self.diagnostics:
            self.diagnostics.add(Position(1, 1), "the file has no rows", "each row makes a job")

    def _lines(self) -> Iterator[str]:
        """The lines with their ends, one at a time. Raises ReadingStopped."""
        read_line = partial(io.BytesIO(self.raw).readline, bounds.LINE_CHARS + 1)
        self.row_chars = 0
        for number, line in enumerate(iter(read_line, b""), 1):
            self.row_chars += len(line)
            if self.row_chars > bounds.LINE_CHARS:
                message = f"a row has more than {bounds.LINE_CHARS:,} characters"
                self.stop(number, message, "a line end or a closing quote is missing")
            try:
                yield line.decode()
            except UnicodeDecodeError as error:
                column = len(line[: error.start].decode()) + 1
                message = f"byte 0x{line[error.start]:02x} is not UTF-8"
                self.diagnostics.add(Position(number, column, 0), message, SAVE_AS_UTF8)
                raise ReadingStopped from None

    def count(self, most: int) -> int:
        """The number of rows, counted up to `most` and only where there may be so many."""
        if self.raw.count(b"\n") < most:
            return 0
        with suppress(csv.Error, ReadingStopped):
            if self.suffix == ".csv":
                return self._count(csv.reader(self._lines()), most + 2) - 1  # without the header
            return self._count((line.strip() for line in self._lines()), most + 1)
        return 0

    def _count(self, rows: Iterable[object], most: int) -> int:
        number = 0
        for row in rows:
            self.row_chars = 0
            number += bool(row)
            if number == most:
                break
        return number

    def _csv(self) -> Iterator[Row]:
        reader = csv.reader(self._lines(), strict=True)
        first = 1
        header: list[str] | None = None
        try:
            for cells in reader:
                self.row_chars = 0
                if not cells:
                    pass
                elif header is None:
                    header = [cell.strip() for cell in cells]
                    self.check_header(header, first)
                    columns = [(name, index) for index, name in enumerate(header) if NAME.fullmatch(name)]
                elif len(cells) != len(header):
                    number = f"{len(cells)} field{'s' if len(cells) > 1 else ''}"
                    self.report(first, f"the row does not have the header's {len(header)} fields: {number}")
                else:
                    yield first, {name: cells[index] for name, index in columns}
                first = reader.line_num + 1
        except csv.Error as error:
            self.stop(first, f"this is not CSV: {_csv_fault(error)}", "put quotes around the field")

    def check_header(self, names: list[str], line: int) -> None:
        if len(names) > bounds.COLUMNS:
            message = f"the header has {len(names):,} columns; at most {bounds.COLUMNS:,} are allowed"
            self.stop(line, message, "leave out the columns that no template uses")
        for name in sorted({name for name in names if name and names.count(name) > 1}):
            self.stop(line, f"the header has the column `{name[:100]}` twice", "rename one of them")
        if not any(NAME.fullmatch(name) for name in names):
            separated = any(re.search(r"[;\t|]", name) for name in names)
            hint = "its columns must be separated by commas" if separated else "such as: sku,title"
            self.stop(line, "the first line is no header: it has no name that a template can use", hint)

    def _jsonl(self) -> Iterator[Row]:
        for number, text in enumerate(self._lines(), 1):
            self.row_chars = 0
            if text.isspace():
                continue
            try:
                row = DECODER.decode(text)
                if type(row) is not dict:
                    raise ValueError('a row must be an object, such as {"sku": "a-1"}')
                if text.count("[") + text.count("{") > MAX_DEPTH and _is_deeper(row, MAX_DEPTH):
                    raise RecursionError
                if "\\ud" in text.lower():
                    json.dumps(row, ensure_ascii=False).encode()
            except json.JSONDecodeError as error:
                self.report(number, f"the row is not JSON: {error.msg}", column=error.colno)
            except UnicodeEncodeError:
                self.report(number, "the row holds half of a surrogate pair, which is no text")
            except RecursionError:
                self.report(number, f"the row is nested more than {MAX_DEPTH} deep")
            except ValueError as error:
                self.report(number, str(error))
            else:
                yield number, {name: value for name, value in row.items() if NAME.fullmatch(name)}

    def report(self, line: int, message: str, hint: str = "", column: int = 1) -> None:
        self.diagnostics.add_row(Origin(self.name, line), message, hint, column)

    def stop(self, line: int, message: str, hint: str) -> NoReturn:
        self.report(line, message, hint)
        raise ReadingStopped


def _csv_fault(error: csv.Error) -> str:
    message = str(error)
    if "new-line character" in message:
        return "a line ends as on an old Macintosh"
    if "unexpected end" in message:
        return "a quoted field has no end"
    return message


def _is_deeper(value: Any, levels: int) -> bool:
    children = value.values() if type(value) is dict else value if type(value) is list else ()
    return levels < 0 or any(_is_deeper(child, levels - 1) for child in children)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > bounds.COLUMNS:
        raise ValueError(f"the row has {len(pairs):,} names; at most {bounds.COLUMNS:,} are allowed")
    members = dict(pairs)
    if len(members) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the row has a name twice: {next(name for name in names if names.count(name) > 1)[:100]}")
    return members


def _integer(text: str) -> int:
    if len(text) > LONGEST_INTEGER:
        raise ValueError("the row has a number that is too long: put it in quotes")
    return int(text)


def _float(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"the row has the number {text[:20]}, which JSON does not allow")
    return number


DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_float)
