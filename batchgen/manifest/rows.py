"""Reads the rows of a CSV or JSONL file one at a time: each is a mapping of names to values."""

import csv
import json
import math
import re
from collections.abc import Collection, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

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
    """The text of a file of rows. Other than in YAML, only a line feed ends a line."""

    @cached_property
    def lines(self) -> list[str]:
        return [line.rstrip("\r") for line in self.text.split("\n")]


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
        source = RowsText(shown, read_bytes(path, "file", "there is no such file beside the manifest"))
        self.diagnostics = diagnostics.of_rows(source)
        if source.encoding_fault:
            self.diagnostics.add(*source.encoding_fault, SAVE_AS_UTF8)
        self.text = source.text

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
        """The lines with their ends, one at a time: io.StringIO would hold four bytes for each character."""
        start = 0
        while start < len(self.text):
            end = self.text.find("\n", start) + 1 or len(self.text)
            yield self.text[start:end]
            start = end

    def _csv(self) -> Iterator[Row]:
        reader = csv.reader(self._lines(), strict=True)
        first = 1
        header: list[str] | None = None
        try:
            for cells in reader:
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
        for name in sorted({name for name in names if name and names.count(name) > 1}):
            self.stop(line, f"the header has the column `{name[:100]}` twice", "rename one of them")
        if not any(NAME.fullmatch(name) for name in names):
            separated = any(re.search(r"[;\t|]", name) for name in names)
            hint = "its columns must be separated by commas" if separated else "such as: sku,title"
            self.stop(line, "the first line is no header: it has no name that a template can use", hint)

    def _jsonl(self) -> Iterator[Row]:
        for number, text in enumerate(self._lines(), 1):
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
