"""The rows of a CSV or JSONL file, streamed: each a mapping from names to values, with the line it begins on."""

from __future__ import annotations

import csv
import json
import math
import re
import stat
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NoReturn

from batchgen.manifest.nodes import DEEPEST
from batchgen.manifest.source import SAVE_AS_UTF8, Findings, Origin, Place, Source, not_utf8

SUFFIXES = (".csv", ".jsonl")
NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
"""What a template can name; other columns are there to be read by people."""
LONGEST_WHOLE = 19
"""Digits of a whole number; of more, it is text."""

Row = tuple[int, dict[str, Any]]


class RowsSource(Source):
    """A file of rows, of which only the lines with something wrong are kept."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "")
        self.__dict__["kept"] = {}

    def keep(self, number: int, text: str) -> None:
        self.__dict__["kept"].setdefault(number, text)

    def line(self, number: int) -> str:
        return str(self.__dict__["kept"].get(number, ""))


class Unreadable(Exception):
    """The file cannot be read at all: `str(error)` says why, `label` what to do."""

    def __init__(self, message: str, label: str = "") -> None:
        super().__init__(message)
        self.label = label


class Rows:
    """One file of rows. `columns` is what every row has; None where each row says for itself."""

    def __init__(self, path: Path, shown: Path, axes: Collection[str], findings: Findings) -> None:
        """`path` is read; problems name `shown`. `axes` are names that no row may have. Raises Unreadable."""
        if path.suffix.lower() not in SUFFIXES:
            raise Unreadable(f"`rows` are read from {' and '.join(SUFFIXES)} files", "one row a line")
        self.name = shown.name
        self.axes = frozenset(axes)
        self.source = RowsSource(shown)
        self.findings = findings.beside(self.source)
        self.path = path
        self.columns: tuple[str, ...] | None = None
        try:
            if not stat.S_ISREG(path.stat().st_mode):
                raise Unreadable("this is not a regular file")
            path.open("rb").close()
        except (FileNotFoundError, NotADirectoryError):
            raise Unreadable("there is no such file beside the manifest") from None
        except (OSError, ValueError) as error:
            raise Unreadable(f"the file cannot be read: {getattr(error, 'strerror', None) or error}") from None

    def __iter__(self) -> Iterator[Row]:
        """The rows in turn. What is wrong with one is found, and the row left out."""
        found = False
        try:
            for row in self._csv() if self.path.suffix.lower() == ".csv" else self._jsonl():
                if not found and not self.axes.isdisjoint(row[1]):
                    name = min(self.axes & row[1].keys())
                    self.stop(row[0], "", f"`{name}` is the name of a matrix as well as of a column", "rename one")
                found = True
                yield row
        except _Stop:
            return
        if not found and not self.findings:
            self.findings.add(Place(1, 1), "the file has no rows", "each row makes a job")

    def _lines(self) -> Iterator[str]:
        number = 0
        with self.path.open("rb") as file:
            for number, raw in enumerate(file, 1):
                try:
                    text = raw.decode()
                except UnicodeDecodeError as error:
                    line = raw.decode("utf-8", "replace").rstrip("\r\n")
                    column = len(raw[: error.start].decode("utf-8", "replace")) + 1
                    self.stop(number, line, not_utf8(raw if number == 1 else b"", error), SAVE_AS_UTF8, column)
                yield text.removeprefix("\ufeff") if number == 1 else text

    def _csv(self) -> Iterator[Row]:
        kept: list[str] = []

        def noted() -> Iterator[str]:
            for text in self._lines():
                kept.append(text)
                yield text

        reader = csv.reader(noted(), strict=True)
        begin = 1
        header: list[str] | None = None
        try:
            for cells in reader:
                if not cells:
                    pass
                elif header is None:
                    header = self.header([cell.strip() for cell in cells], begin, kept[0])
                    taken = [(name, at) for at, name in enumerate(header) if NAME.fullmatch(name)]
                    self.columns = tuple(name for name, _ in taken)
                elif len(cells) != len(header):
                    fields = f"{len(cells)} field{'s' if len(cells) > 1 else ''}"
                    self.blame(begin, kept[0], f"the row does not have the header's {len(header)} fields: {fields}")
                else:
                    yield begin, {name: cells[at] for name, at in taken}
                kept.clear()
                begin = reader.line_num + 1
        except csv.Error as error:
            self.stop(begin, kept[0] if kept else "", f"this is not CSV: {_said(error)}", "put quotes around the field")

    def header(self, names: list[str], line: int, text: str) -> list[str]:
        self.source.keep(line, text.rstrip("\r\n"))
        for name in sorted({name for name in names if name and names.count(name) > 1}):
            self.stop(line, text, f"the header has the column `{name[:100]}` twice", "rename one of them")
        if not any(NAME.fullmatch(name) for name in names):
            hint = "its columns must be separated by commas" if re.search(r"[;\t|]", text) else "such as: sku,title"
            self.stop(line, text, "the first line is no header: it has no name that a template can use", hint)
        return names

    def _jsonl(self) -> Iterator[Row]:
        for number, text in enumerate(self._lines(), 1):
            if text.isspace():
                continue
            try:
                row = DECODER.decode(text)
                if type(row) is not dict:
                    raise ValueError('a row must be an object, such as {"sku": "a-1"}')
                if text.count("[") + text.count("{") > DEEPEST and _deep(row, DEEPEST):
                    raise RecursionError
                if "\\ud" in text.lower():
                    json.dumps(row, ensure_ascii=False).encode()
            except json.JSONDecodeError as error:
                self.blame(number, text, f"the row is not JSON: {error.msg}", column=error.colno)
            except UnicodeEncodeError:
                self.blame(number, text, "the row holds half of a surrogate pair, which is no text")
            except RecursionError:
                self.blame(number, text, f"the row is nested more than {DEEPEST} deep")
            except ValueError as error:
                self.blame(number, text, str(error))
            else:
                yield number, {name: value for name, value in row.items() if NAME.fullmatch(name)}

    def blame(self, line: int, text: str, message: str, label: str = "", column: int = 1) -> None:
        self.source.keep(line, text.rstrip("\r\n"))
        self.findings.add_row(Origin(self.name, line), message, label, column)

    def stop(self, line: int, text: str, message: str, label: str, column: int = 1) -> NoReturn:
        self.blame(line, text, message, label, column)
        raise _Stop


class _Stop(Exception):
    """No row can be read beyond this."""


def _said(error: csv.Error) -> str:
    said = str(error)
    if "new-line character" in said:
        return "a line ends as on an old Macintosh"
    if "unexpected end" in said:
        return "a quoted field has no end"
    return said


def _deep(value: Any, levels: int) -> bool:
    children = value.values() if type(value) is dict else value if type(value) is list else ()
    return levels < 0 or any(_deep(child, levels - 1) for child in children)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the row has a name twice: {next(name for name in names if names.count(name) > 1)[:100]}")
    return made


def _whole(text: str) -> int:
    if len(text) > LONGEST_WHOLE:
        raise ValueError("the row has a number that is too long: put it in quotes")
    return int(text)


def _float(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError("the row has a number that is too large")
    return number


def _constant(text: str) -> NoReturn:
    raise ValueError(f"the row is not JSON: {text} is not a number there")


DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_int=_whole, parse_float=_float, parse_constant=_constant)
