"""Writes jobs as the text of a manifest, which `reader` gives back exactly: no text becomes a number or a template.

A text that is no plain word stands in double quotes, with the escapes that JSON and YAML share. A comment is one line.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from batchgen.manifest.scalars import resolve
from batchgen.manifest.source import printable
from batchgen.services.text import is_harmless

WORD = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*")
NO_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "nan", "infinity"})
"""Truth values in YAML 1.1, which editors may read, and words for numbers that are none."""
BRACES = re.compile(r"\{[{%]")
"""What begins a template, or would be refused in a text with templates."""
KEY_CHARS = 100
"""Of a key without a mark: with every character escaped it stays below YAML's bound."""
COMMENT_CHARS = 500
"""Of one line of a comment: a command with a few long paths fits."""

quoted_json = json.JSONEncoder(ensure_ascii=False).encode


class Unwritable(Exception):
    """A value that no manifest can hold. `str(error)` says why."""


def comment(text: str) -> str:
    """A line of a comment. What could end the line is escaped."""
    shortened = text if len(text) <= COMMENT_CHARS else f"{text[: COMMENT_CHARS - 1]}…"
    return f"# {printable(shortened)}".rstrip()


def entry_lines(comments: Sequence[str], keys: Mapping[str, Any], output: str | None) -> Iterator[str]:
    """The lines of one job under `jobs:`. `output` is a template, where the header's does not fit.

    Raises `Unwritable`.
    """
    yield ""
    for text in comments:
        yield f"  {comment(text)}"
    for number, (name, value) in enumerate(keys.items()):
        yield f"  {' ' if number else '-'} {yaml_string(name)}: {flow(value)}"
    if output is not None:
        yield f"    output: {yaml_string(output)}"


def flow(value: Any) -> str:
    """A value on one line; texts in it are literal. Raises `Unwritable`."""
    match value:
        case str():
            return yaml_string(literal(value))
        case dict():
            return "{" + ", ".join(f"{flow_key(name)}: {flow(member)}" for name, member in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(map(flow, value)) + "]"
    text = quoted_json(value)
    if resolve(text) != value:
        raise Unwritable(f"{text[:60]} has more digits than a manifest can hold")
    return text


def flow_key(name: str) -> str:
    """A key in braces. A long one says that it is a key: YAML looks for the colon in 1,024 bytes only."""
    return yaml_string(name) if len(name) <= KEY_CHARS else f"? {yaml_string(name)} "


def literal(text: str) -> str:
    """`text` as a template that gives it back."""
    return BRACES.sub(lambda braces: f"{{{{ '{braces[0]}' }}}}", text) if "{{" in text else text


def yaml_string(text: str) -> str:
    """A text, in quotes unless it is a plain word."""
    if WORD.fullmatch(text) and resolve(text) == text and text.lower() not in NO_WORDS:
        return text
    encoded = quoted_json(text)
    return encoded if encoded.isprintable() else "".join(map(escaped, encoded))


def escaped(char: str) -> str:
    """A character in double quotes: its escape, if it would be read or shown as another one."""
    return char if is_harmless(char) else f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}"
