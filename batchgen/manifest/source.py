"""The text of a file: how it is read, positions in it, and the line at a position with a caret under it."""

from __future__ import annotations

import codecs
import json
import re
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Protocol

from yaml.error import Mark

from batchgen.catalogue.links import NOUNS
from batchgen.errors import ManifestInvalid, Problem, os_reason
from batchgen.files.input_file import InputFault, read_input
from batchgen.files.media import media_type_of
from batchgen.services.text import visible

EXCERPT = 100
"""Characters of a line that an excerpt shows, so that it fits beside the line number in most terminals."""
SAVE_AS_UTF8 = "save the file as UTF-8"
LINE_ENDS = "\r\n\x85\u2028\u2029"
LINE_END = re.compile(f"\r\n|[{LINE_ENDS}]")
IN_QUOTES = re.compile(r'"(?>(?:[^"\\\n]+|\\.)*)"')
"""A text in double quotes on one line, as JSON writes it."""
SURROGATE_PAIR = re.compile(r"(\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|\\.")
"""An escaped surrogate pair, or any other escape: in "\\\\ud83d" the second backslash begins no escape."""
HEAD_BYTES = 256
"""The beginning of a file that shows whether it is text."""
NO_TEXTS: tuple[tuple[bytes, str, str], ...] = (
    (b"PK\x03\x04", "a spreadsheet or an archive", "export the sheet as CSV UTF-8"),
    (b"\xd0\xcf\x11\xe0", "a spreadsheet", "export it as CSV UTF-8"),
    (b"PAR1", "a Parquet file", "export it as CSV or JSON lines"),
    (b"SQLite format 3\0", "a database, such as a job table", "name the text file beside it"),
    (b"\x1f\x8b", "a compressed file", "unpack it"),
    (b"%PDF", "a PDF", "copy its text into a file"),
    (b"\x7fELF", "a program", "name the text file that it reads"),
)
"""The first bytes of files that are no text, what each is, and what to do about it."""
OTHER_TEXTS = (
    (re.compile(rb"\s*<(!doctype html|html|head|table)\b", re.IGNORECASE), "a web page", "download the file itself"),
    (re.compile(rb"\{\\rtf"), "a text with formats (RTF)", "save it as plain text"),
    (re.compile(rb"version https://git-lfs"), "a pointer of Git LFS", "fetch the file with `git lfs pull`"),
)
"""How texts begin that people take for a manifest or a table, what each is, and what to do about it."""
ODD_COMMENT = re.compile(r"(?<![ \t])[ \t]+#(?=[^\W_])")


class Marked(Protocol):
    """An event or a node of the YAML parser. Lines and columns of PyYAML's marks count from 0."""

    @property
    def start_mark(self) -> Mark: ...
    @property
    def end_mark(self) -> Mark: ...


class Position(NamedTuple):
    """A stretch of one line. Line and column count from 1; a width of 0 reaches to the end of the line."""

    line: int
    column: int
    width: int = 1
    begin: int = 0
    """The offset of the line in the text of a manifest."""

    @classmethod
    def of(cls, marked: Position | Marked) -> Position:
        """The position of an event or node; a position itself."""
        if isinstance(marked, Position):
            return marked
        start, end = marked.start_mark, marked.end_mark
        width = max(end.column - start.column, 1) if start.line == end.line else 0
        return cls(start.line + 1, start.column + 1, width, start.index - start.column)


def read_bytes(path: Path, noun: str, missing: str, most: int) -> bytes:
    """The content of a regular file, which messages call `noun`. Raises InputFault: `missing` if there is none."""
    try:
        content = read_input(path, most, noun)
    except FileNotFoundError:
        raise InputFault(missing) from None
    except PermissionError:
        raise InputFault(f"the {noun} may not be read") from None
    except ValueError:  # a NUL character, say
        raise InputFault(f"the {noun} cannot be read: no file has such a name") from None
    except OSError as error:
        raise InputFault(f"the {noun} cannot be read: {os_reason(error)}") from None
    refuse_no_text(content[:HEAD_BYTES], noun)
    return content


def refuse_no_text(head: bytes, noun: str) -> None:
    """Raises InputFault for a file that begins as no text does, as another kind, or as UTF-16 without its mark."""
    for pattern, kind, hint in OTHER_TEXTS:
        if pattern.match(head.removeprefix(codecs.BOM_UTF8)):
            raise InputFault(f"this is {kind}, not a {noun}", hint)
    with suppress(UnicodeDecodeError):
        if "\0" not in codecs.getincrementaldecoder("utf-8")().decode(head):  # the last character may be cut
            return
    for signature, kind, hint in NO_TEXTS:
        if head.startswith(signature):
            raise InputFault(f"this is {kind}, not a {noun}", hint)
    if media_type := media_type_of(head):
        raise InputFault(f"this is {NOUNS[media_type.partition('/')[0]]}, not a {noun}", "name a text file")
    # Letters of ASCII have a NUL before or behind them in UTF-16.
    if (b"\0" in head[:2] and head.strip(b"\0")) or head.startswith(codecs.BOM_UTF32_LE):
        raise InputFault("this looks like UTF-16 without its mark, or like UTF-32", SAVE_AS_UTF8)


def as_utf8(raw: bytes) -> bytes:
    """The bytes in UTF-8 without a byte order mark. UTF-16 is known by its mark; damaged, it stays as it is."""
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            return raw.decode("utf-16").encode()
        except UnicodeError:
            return raw
    return raw.removeprefix(codecs.BOM_UTF8)


def with_whole_characters(text: str) -> str:
    """The text with each surrogate pair in double quotes as its character: JSON writes an emoji so, and YAML does not.

    A later column on the line is that of the shorter line.
    """
    if "\\ud" not in text and "\\uD" not in text:
        return text
    return IN_QUOTES.sub(lambda quoted: SURROGATE_PAIR.sub(whole_character, quoted[0]), text)


def whole_character(pair: re.Match[str]) -> str:
    """The character that two escapes of a surrogate pair stand for; other escapes as they are."""
    return json.loads(f'"{pair[0]}"') if pair[1] else pair[0]


class SourceText:
    """The text of a file: UTF-8 or UTF-16, without its byte order mark. `path` is as the user wrote it.

    Raises ManifestInvalid where it is neither.
    """

    def __init__(self, path: Path, raw: bytes) -> None:
        self.path = path
        raw = as_utf8(raw)
        try:
            self.text = with_whole_characters(raw.decode())
        except UnicodeDecodeError as error:
            self.text = raw[: error.start].decode()
            line, column, *_ = self.position_of(len(self.text))
            message = f"byte 0x{raw[error.start]:02x} is not UTF-8"
            raise ManifestInvalid([Problem(message, path, line, column, SAVE_AS_UTF8)]) from None

    @cached_property
    def odd_comments(self) -> frozenset[int]:
        """The offsets at which a comment follows that begins with a letter or digit, such as ` #sunset`."""
        matches = ODD_COMMENT.finditer(self.text) if " #" in self.text else ()
        return frozenset(match.start() for match in matches)

    def line(self, position: Position) -> str:
        """The line of this position without its end."""
        end = LINE_END.search(self.text, position.begin)
        return self.text[position.begin : end.start() if end else None]

    def position_of(self, offset: int) -> Position:
        """The position of the character at an offset from the beginning."""
        before = self.text[:offset]
        line_ends = sum(map(before.count, LINE_ENDS)) - before.count("\r\n")
        begin = max(map(before.rfind, LINE_ENDS)) + 1
        return Position(line_ends + 1, offset - begin + 1, begin=begin)

    def excerpt(self, position: Position, hint: str) -> str:
        """The line at `position` with a caret under it, and `hint` beside the caret."""
        from rich.cells import cell_len  # Imported here: a sound manifest needs no caret.

        line = self.line(position)
        column = min(position.column - 1, len(line))
        width = position.width or len(line.rstrip()) - column
        first = max(column - EXCERPT // 2, 0) if len(line) > EXCERPT else 0
        end_of_mark = column + max(min(width, EXCERPT), 0)
        before, marked = line[first:column], line[column:end_of_mark]
        after = line[end_of_mark : end_of_mark + max(EXCERPT - len(before) - len(marked), 0)]
        left, body, rest = ("…" if first else "") + printable(before), printable(marked), printable(after)
        end = "…" if first + EXCERPT < len(line) else ""
        gutter = max(4, len(str(position.line)))
        caret = f"{' ' * cell_len(left)}{'^' * max(cell_len(body), 1)} {hint}".rstrip()
        return f"{position.line:>{gutter}} | {left}{body}{rest}{end}\n{'':>{gutter}} | {caret}"


def printable(text: str) -> str:
    """`text` without control characters, which could move the cursor: a tab is a space, others are escaped."""
    return visible(text.replace("\t", " "))
