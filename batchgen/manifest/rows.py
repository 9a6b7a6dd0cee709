"""Reads the rows of a CSV or JSONL file one at a time: each is a mapping of names to values."""

import csv
import json
import math
import re
import stat
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NoReturn

from batchgen.manifest.diagnostics import Diagnostics, InvalidValue, Origin
from batchgen.manifest.job_keys import NAME
from batchgen.manifest.nodes import MAX_DEPTH
from batchgen.manifest.source import SAVE_AS_UTF8, Position, SourceText, encoding_fault

SUFFIXES = (".csv", ".jsonl")
LONGEST_INTEGER = 19
"""Digits of a whole number in JSON: more do not fit into 64 bits."""

Row = tuple[int, dict[str, Any]]
"""The line that a row begins on, and its values by name."""


class RowsText(SourceText):
    """The text of a file of rows. Only lines with a mistake are kept, for their excerpts."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "")
        self.kept: dict[int, str] = {}

    def line(self, number: int) -> str:
        return self.kept.get(number, "")


class RowsUnreadable(InvalidValue):
    """The file cannot be opened."""


class ReadingStopped(Exception):
    """The rows from here on cannot be read. The reason is among the diagnostics."""


class RowsFile:
    """A file of rows, read anew by each iteration."""

    def __init__(self, path: Path, shown: Path, axes: Collection[str], diagnostics: Diagnostics) -> None:
        """`shown` is the path for messages; a column may not have the name of one of the `axes`.

        Raises RowsUnreadable.
        """
        if path.suffix.lower() not in SUFFIXES:
            raise RowsUnreadable(f"`rows` are read from {' and '.join(SUFFIXES)} files", "one row a line")
        self.name = shown.name
        self.axes = frozenset(axes)
        self.source = RowsText(shown)
        self.diagnostics = diagnostics.of_rows(self.source)
        self.path = path
        try:
            if not stat.S_ISREG(path.stat().st_mode):
                raise RowsUnreadable("this is not a regular file")
            path.open("rb").close()
        except (FileNotFoundError, NotADirectoryError):
            raise RowsUnreadable("there is no such file beside the manifest") from None
        except (OSError, ValueError) as error:
            raise RowsUnreadable(f"the file cannot be read: {getattr(error, 'strerror', None) or error}") from None

    def __iter__(self) -> Iterator[Row]:
        """The rows in the order of the file. A row with a mistake is reported and left out."""
        empty = True
        try:
            for row in self._csv() if self.path.suffix.lower() == ".csv" else self._jsonl():
                if empty and not self.axes.isdisjoint(row[1]):
                    name = min(self.axes & row[1].keys())
                    self.stop(row[0], "", f"`{name}` is the name of a matrix as well as of a column", "rename one")
                empty = False
                yield row
        except ReadingStopped:
            return
        if empty and not self.diagnostics:
            self.diagnostics.add(Position(1, 1), "the file has no rows", "each row makes a job")

    def _lines(self) -> Iterator[str]:
        with self.path.open("rb") as file:
            for number, raw in enumerate(file, 1):
                try:
                    text = raw.decode()
                except UnicodeDecodeError as error:
                    line = raw.decode("utf-8", "replace").rstrip("\r\n")
                    column = len(raw[: error.start].decode("utf-8", "replace")) + 1
                    self.stop(number, line, encoding_fault(raw if number == 1 else b"", error), SAVE_AS_UTF8, column)
                yield text.removeprefix("\ufeff") if number == 1 else text

    def _csv(self) -> Iterator[Row]:
        row_lines: list[str] = []

        def lines() -> Iterator[str]:
            for text in self._lines():
                row_lines.append(text)
                yield text

        reader = csv.reader(lines(), strict=True)
        first = 1
        header: list[str] | None = None
        try:
            for cells in reader:
                if not cells:
                    pass
                elif header is None:
                    header = [cell.strip() for cell in cells]
                    self.source.kept[first] = row_lines[0].rstrip("\r\n")
                    self.check_header(header, first, row_lines[0])
                    columns = [(name, index) for index, name in enumerate(header) if NAME.fullmatch(name)]
                elif len(cells) != len(header):
                    number = f"{len(cells)} field{'s' if len(cells) > 1 else ''}"
                    message = f"the row does not have the header's {len(header)} fields: {number}"
                    self.report(first, row_lines[0], message)
                else:
                    yield first, {name: cells[index] for name, index in columns}
                row_lines.clear()
                first = reader.line_num + 1
        except csv.Error as error:
            hint = "put quotes around the field"
            self.stop(first, row_lines[0] if row_lines else "", f"this is not CSV: {_csv_fault(error)}", hint)

    def check_header(self, names: list[str], line: int, text: str) -> None:
        for name in sorted({name for name in names if name and names.count(name) > 1}):
            self.stop(line, text, f"the header has the column `{name[:100]}` twice", "rename one of them")
        if not any(NAME.fullmatch(name) for name in names):
            hint = "its columns must be separated by commas" if re.search(r"[;\t|]", text) else "such as: sku,title"
            self.stop(line, text, "the first line is no header: it has no name that a template can use", hint)

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
                self.report(number, text, f"the row is not JSON: {error.msg}", column=error.colno)
            except UnicodeEncodeError:
                self.report(number, text, "the row holds half of a surrogate pair, which is no text")
            except RecursionError:
                self.report(number, text, f"the row is nested more than {MAX_DEPTH} deep")
            except ValueError as error:
                self.report(number, text, str(error))
            else:
                yield number, {name: value for name, value in row.items() if NAME.fullmatch(name)}

    def report(self, line: int, text: str, message: str, hint: str = "", column: int = 1) -> None:
        self.source.kept.setdefault(line, text.rstrip("\r\n"))
        self.diagnostics.add_row(Origin(self.name, line), message, hint, column)

    def stop(self, line: int, text: str, message: str, hint: str, column: int = 1) -> NoReturn:
        self.report(line, text, message, hint, column)
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
