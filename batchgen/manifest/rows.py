"""Reads the rows of a CSV or JSONL file one at a time: each is a mapping of names to values."""

import csv
import io
import json
import math
import re
from collections import Counter
from collections.abc import Collection, Iterator
from functools import partial
from itertools import islice
from pathlib import Path, PurePath
from typing import Any, NoReturn

from batchgen.catalogue.openapi import depth_of
from batchgen.catalogue.wording import plural
from batchgen.catalogue.written import Written, trimmed
from batchgen.files.input_file import InputFault
from batchgen.files.media import no_such_file
from batchgen.manifest import bounds
from batchgen.manifest.diagnostics import Origin, ReadingStopped
from batchgen.manifest.header import ManifestFile
from batchgen.manifest.job_keys import NAME
from batchgen.manifest.nodes import MAX_DEPTH
from batchgen.manifest.source import Position, SourceText, as_utf8, read_bytes

TABLES = (".csv", ".tsv", ".txt")
"""Files of a spreadsheet; Excel calls its "Unicode text" .txt."""
SUFFIXES = (*TABLES, ".jsonl", ".ndjson")
SPREADSHEETS = (".xlsx", ".xls", ".xlsm", ".ods", ".numbers")
DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab"}
"""What separates the cells, and its name. Where two make equally many names of the header, the first counts."""
EXTRA_LINE = re.compile(rb'("?(?i:sep)=([\t -!#-~])"?[;,\t]*|"?#TYPE [^\r\n]*)\r?\n')
"""A first line by which Excel says what separates the cells, or that PowerShell's Export-Csv writes."""
LONE_RETURN = re.compile(rb"\r(?!\n)")
ONE_OBJECT = "write one object a line, without brackets, commas or comments around it"
TOO_DEEP = f"the row is nested more than {MAX_DEPTH} deep"
LONGEST_INTEGER = 19
"""Digits of a whole number in JSON: more do not fit into 64 bits."""

Row = tuple[int, dict[str, Any]]
"""The line that a row begins on, and its values by name."""


class RowsText(SourceText):
    """The text of a file of rows, kept as bytes and decoded line by line: as text it could take four times the memory.

    Only a line feed ends a line. UTF-16 becomes UTF-8, and the line ends of an old Macintosh become line feeds.
    """

    def __init__(self, path: Path, raw: bytes) -> None:
        super().__init__(path, b"")
        raw = as_utf8(raw)
        self.raw = LONE_RETURN.sub(b"\n", raw) if ends_with_return(raw) else raw
        self.last_line = 1, 0
        """The number and the beginning of the line that was looked up last."""

    def line(self, position: Position) -> str:
        first, start = self.last_line if self.last_line[0] <= position.line else (1, 0)
        for _ in range(position.line - first):
            start = self.raw.find(b"\n", start) + 1
            if not start:
                return ""
        self.last_line = position.line, start
        end = self.raw.find(b"\n", start, start + bounds.LINE_CHARS)
        return self.raw[start : end if end >= 0 else start + bounds.LINE_CHARS].decode(errors="replace").rstrip("\r")


class RowsFile:
    """A file of rows. Its text stays in memory, for excerpts."""

    def __init__(self, file: ManifestFile, path: str, axes: Collection[str]) -> None:
        """`path` is as the manifest `file` has it; no column may be named as one of the axes of a matrix.

        Raises InputFault where the file cannot be read; what is wrong in its text is reported.
        """
        self.name = PurePath(path).name
        self.suffix = PurePath(path).suffix.lower()
        if self.suffix not in SUFFIXES:
            hint = "save the sheet as CSV UTF-8" if self.suffix in SPREADSHEETS else "one row a line"
            raise InputFault("`rows` are read from .csv, .tsv, .txt and .jsonl files", hint)
        self.axes = frozenset(axes)
        raw = read_bytes(file.folder / path, "file of rows", no_such_file(path), bounds.ROWS_BYTES)
        source = RowsText(file.diagnostics.source.path.parent / path, raw)
        self.raw, self.line = source.raw, source.line
        self.diagnostics = file.job_diagnostics.of_rows(source)
        self.row_chars = 0
        """The length of the current row so far; a quoted field may have line ends in it."""
        self.delimiter = ","
        self.unusable: list[str] = []
        """The columns whose names no template can say."""

    def __iter__(self) -> Iterator[Row]:
        """The rows in the order of the file. A row with a mistake is reported and left out."""
        empty = True
        try:
            for row in self.table_rows() if self.suffix in TABLES else self.json_rows():
                if empty and not self.axes.isdisjoint(row[1]):
                    name = min(self.axes & row[1].keys())
                    self.stop(row[0], f"`{name}` is the name of a matrix as well as of a column", "rename one")
                empty = False
                yield row
        except ReadingStopped:
            return
        if empty and not self.diagnostics:
            self.diagnostics.add(Position(1, 1), "the file has no rows", "each row makes a job")

    def lines(self, skipped: int = 0) -> Iterator[str]:
        """The lines with their ends, one at a time, behind the first ones that are `skipped`. Raises ReadingStopped."""
        self.row_chars = 0
        read_line = partial(io.BytesIO(self.raw).readline, bounds.LINE_CHARS + 1)
        for number, line in islice(enumerate(iter(read_line, b""), 1), skipped, None):
            self.row_chars += len(line)
            if self.row_chars > bounds.LINE_CHARS:
                message = f"a row has more than {bounds.LINE_CHARS:,} characters"
                self.stop(number, message, "a line end or a closing quote is missing")
            try:
                yield line.decode()
            except UnicodeDecodeError as error:
                column = len(line[: error.start].decode()) + 1
                hint = "save the file as UTF-8; Excel calls it CSV UTF-8"
                self.stop(number, f"byte 0x{line[error.start]:02x} is not UTF-8", hint, column)

    def records(self) -> Iterator[tuple[int, list[str]]]:
        """The cells of each row with the line that it begins on, the header among them; of JSON lines, the text.

        Blank rows make no job and are left out. Raises ReadingStopped.
        """
        if self.suffix not in TABLES:
            for number, text in enumerate(self.lines(), 1):
                self.row_chars = 0
                if trimmed(text):
                    yield number, [text]
            return
        csv.field_size_limit(bounds.LINE_CHARS)
        extra_line = EXTRA_LINE.match(self.raw)
        skipped, stated = (1, extra_line[2] or b"") if extra_line else (0, b"")
        header = next(filter(trimmed, self.lines(skipped)), "")
        self.delimiter = delimiter_of(header, stated.decode())
        # A cell in quotes behind a blank would be read with its quotes, and fall apart at a comma in it.
        has_blanks = f'{self.delimiter} "'.encode() in self.raw
        reader = csv.reader(self.lines(skipped), delimiter=self.delimiter, skipinitialspace=has_blanks, strict=True)
        row_line = skipped + 1
        try:
            for cells in reader:
                self.row_chars = 0
                if any(map(trimmed, cells)):
                    yield row_line, cells
                row_line = skipped + reader.line_num + 1
        except csv.Error as error:
            self.stop(row_line, *csv_fault(error, self.line(Position(skipped + reader.line_num, 1))))

    def has_more_than(self, most: int) -> bool:
        """Whether there are more rows than that; they are counted where there may be so many. Raises ReadingStopped."""
        if self.raw.count(b"\n") < most:
            return False
        most += self.suffix in TABLES  # the header
        return sum(1 for _ in islice(self.records(), most + 1)) > most

    def table_rows(self) -> Iterator[Row]:
        header: list[str] | None = None
        for row_line, cells in self.records():
            if header is None:
                header = [trimmed(cell) for cell in cells]
                self.check_header(header, row_line)
                columns = [(name, index) for index, name in enumerate(header) if NAME.fullmatch(name)]
            elif fault := row_fault(cells, header, self.delimiter):
                self.report(row_line, *fault)
            else:
                cells += [""] * (len(header) - len(cells))  # spreadsheets leave the last empty cells out
                yield row_line, {name: as_text(cells[index]) for name, index in columns}

    def check_header(self, names: list[str], line: int) -> None:
        if len(names) > bounds.COLUMNS:
            message = f"the header has {len(names):,} columns; at most {bounds.COLUMNS:,} are allowed"
            self.stop(line, message, "leave out the columns that no template uses")
        usable = [name for name in names if NAME.fullmatch(name)]
        self.unusable = [name for name in dict.fromkeys(names) if name and name not in usable]
        if twice := sorted(name for name, number in Counter(usable).items() if number > 1):
            self.stop(line, f"the header has the column `{twice[0][:100]}` twice", "rename one of them")
        if not usable:
            hint = "a name has the letters a to z, digits and _ only, such as: sku,title"
            if any("|" in name for name in names):
                hint = "its columns must be separated by commas, semicolons or tabs"
            self.stop(line, "the first line is no header: it has no name that a template can use", hint)

    def json_rows(self) -> Iterator[Row]:
        for number, (text,) in self.records():
            try:
                row = DECODER.decode(text)
                if type(row) is not dict:
                    self.report(number, 'a row must be an object, such as {"sku": "a-1"}', ONE_OBJECT)
                    continue
                if text.count("[") + text.count("{") > MAX_DEPTH and depth_of(row) - 1 > MAX_DEPTH:
                    self.report(number, TOO_DEEP)
                    continue
                if all(value is None or value == "" for value in row.values()):
                    continue
                if "\\ud" in text.lower():
                    json.dumps(row, ensure_ascii=False, default=str).encode()
            except json.JSONDecodeError as error:
                self.report(number, f"the row is not JSON: {error.msg}", ONE_OBJECT, error.colno)
            except UnicodeEncodeError:
                self.report(number, "the row holds half of a surrogate pair, which is no text")
            except RecursionError:
                self.report(number, TOO_DEEP)
            except ValueError as error:
                self.report(number, str(error))
            else:
                yield number, {name: value for name, value in row.items() if NAME.fullmatch(name)}

    def report(self, line: int, message: str, hint: str = "", column: int = 1) -> None:
        self.diagnostics.add_row(Origin(self.name, line), message, hint, column)

    def stop(self, line: int, message: str, hint: str, column: int = 1) -> NoReturn:
        self.report(line, message, hint, column)
        raise ReadingStopped


def ends_with_return(raw: bytes) -> bool:
    """Whether the first line ends with a carriage return alone, as on an old Macintosh."""
    first, line_feed = raw.find(b"\r"), raw.find(b"\n")
    return first >= 0 and (line_feed < 0 or first < line_feed - 1)


def delimiter_of(header: str, stated: str) -> str:
    """What separates the cells: what the file states, if the header bears it out; else what makes most names of it."""
    if stated and (stated in header or not any(other in header for other in DELIMITERS)):
        return stated

    def names(delimiter: str) -> int:
        cells = next(csv.reader(header.split("\r"), delimiter=delimiter), [])
        return sum(bool(NAME.fullmatch(trimmed(cell))) for cell in cells)

    return max(DELIMITERS, key=names)


def as_text(cell: str) -> str:
    """A cell without the formula by which a spreadsheet is told to keep it as text: `="007"`."""
    return cell[2:-1] if cell.startswith('="') and cell.find('"', 2) == len(cell) - 1 else cell


def row_fault(cells: list[str], header: list[str], delimiter: str) -> tuple[str, str] | None:
    """What is wrong with the number of a row's cells or with the row as a whole, and what to do about it."""
    separator = DELIMITERS.get(delimiter, delimiter)
    if len(cells) > len(header) and any(map(trimmed, cells[len(header) :])):
        message = f"the row does not have the header's {plural(len(header), 'field')}: {plural(len(cells), 'field')}"
        return message, f'put a field that holds a {separator} in straight quotes (")'
    if len(header) > 1 and trimmed(cells[0]) == header[0]:
        names = [trimmed(cell) for cell in cells[: len(header)]]
        if names + [""] * (len(header) - len(names)) == header:
            return "the header stands here once more", "take this line out: every row makes a job"
    for other in DELIMITERS if len(cells) == 1 < len(header) else ():
        # A blank follows the comma of a sentence.
        if other != delimiter and cells[0].count(other) + 1 == len(header) and f"{other} " not in cells[0]:
            message = f"the header has {separator}s between its fields, this row has {DELIMITERS[other]}s"
            return message, f"put {separator}s between its fields, the empty ones too"
    return None


def csv_fault(error: csv.Error, line: str) -> tuple[str, str]:
    """Why a line is not CSV, and what to do about it."""
    message, hint = str(error), "put quotes around the field, and write a quote inside them twice"
    if "new-line character" in message:
        message = "a line ends with a carriage return alone, and others do not"
    elif "unexpected end" in message:
        message = "a quoted field has no end"
    if '\\"' in line:
        hint = 'a quote inside quotes is written twice: "", not \\"'
    return f"this is not CSV: {message}", hint


def object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > bounds.COLUMNS:
        raise ValueError(f"the row has {len(pairs):,} names; at most {bounds.COLUMNS:,} are allowed")
    members = dict(pairs)
    if len(members) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the row has a name twice: {next(name for name in names if names.count(name) > 1)[:100]}")
    return members


def integer_of(text: str) -> Written:
    if len(text) > LONGEST_INTEGER:
        raise ValueError("the row has a number that is too long: put it in quotes")
    return Written(int(text), text)


def float_of(text: str) -> Written:
    if not math.isfinite(number := float(text)):
        hint = ": write null for a value that is missing" if text == "NaN" else ""
        raise ValueError(f"the row has the number {text[:20]}, which JSON does not allow{hint}")
    return Written(number, text)


DECODER = json.JSONDecoder(
    object_pairs_hook=object_of, parse_int=integer_of, parse_float=float_of, parse_constant=float_of
)
