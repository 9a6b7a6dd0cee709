"""How messages count and list things, suggest the nearest name, quote a value, and say what a schema allows."""

import unicodedata
from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from functools import lru_cache
from typing import Any

LISTED_MAX = 12
"""At most so many alternatives are listed in one message; more would bury it."""
COMPARED_CHARACTERS = 100
"""Characters of a name that are compared: comparing takes time in the square of the length."""
CANDIDATES_MAX = 200
"""Names that one is compared with, for the same reason."""

TYPE_NAMES = {
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "null",
}
"""What messages call the types of JSON Schema."""
KINDS = {"Cc": "CONTROL CHARACTER", "Cs": "HALF OF A SURROGATE PAIR", "Co": "PRIVATE USE", "Cn": "UNASSIGNED"}
"""What messages call characters without a name, by their category in Unicode."""


def listed(values: Sequence[object], conjunction: str = "and") -> str:
    """`values` as a sentence lists them: "5, 10 or 15"."""
    names = [str(value) for value in values[:LISTED_MAX]]
    if len(values) > LISTED_MAX:
        return f"{', '.join(names)}, … ({len(values)} in all)"
    return f" {conjunction} ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def plural(number: int, noun: str) -> str:
    """1 job, 2 jobs."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def unknown_charges(number: int) -> str:
    """What a sum of money leaves out: "2 charges not known yet"; "" for none."""
    return f"{plural(number, 'charge')} not known yet" if number else ""


def nearest_hint(name: str, candidates: Collection[str]) -> str:
    """The hint "did you mean …?" with the most similar candidate; empty where none is similar."""
    near = nearest_name(name, candidates)
    return did_you_mean(near, name) if near else ""


def did_you_mean(near: str, name: str) -> str:
    """The hint with a name that is near to `name`. A blank that only looks like the usual one is named."""
    odd = next((char for char in near if char not in name and unicodedata.category(char) == "Zs"), "")
    return f"did you mean {near}?{f' Its blank is {character_name(odd)}: copy the name' if odd else ''}"


def character_name(char: str) -> str:
    """A character by its number and its name in Unicode; a byte of a file's name that is no text, as that byte."""
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # where Python keeps such bytes
        return f"the byte 0x{code - 0xDC00:02X}, which is not UTF-8"
    return f"U+{code:04X} {unicodedata.name(char, KINDS.get(unicodedata.category(char), ''))}".rstrip()


def nearest_name(name: str, candidates: Collection[str]) -> str:
    """The most similar candidate; "" where none is similar."""
    return _nearest_name(name[:COMPARED_CHARACTERS], tuple(candidates)[:CANDIDATES_MAX])


@lru_cache(maxsize=1_000)
def _nearest_name(name: str, candidates: tuple[str, ...]) -> str:
    folded: dict[str, str] = {}
    for candidate in candidates:
        folded.setdefault(candidate[:COMPARED_CHARACTERS].casefold(), candidate)
    near = get_close_matches(name.casefold(), folded, n=1)
    return folded[near[0]] if near else ""


def suggestion(name: str, candidates: Collection[str]) -> str:
    """The hint for an unknown name: the most similar candidate, else all of them."""
    return nearest_hint(name, candidates) or f"known: {listed(list(candidates))}"


def quoted(value: object) -> str:
    """A value as the manifest would write it, at most 60 characters long; a mapping or list only by its kind."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case str():
            return f'"{value}"' if len(value) <= 60 else f'"{value[:57]}…"'
        case list():
            return "a list"
        case dict():
            return "a mapping"
    return str(value)[:60]


def list_hint(value: object) -> str:
    """How one value is written where a list is meant; nothing of a mapping or a list."""
    return "" if value is None or isinstance(value, dict | list) else f"one value is written [{quoted(value)}]"


def allowed_range(schema: Mapping[str, Any]) -> str:
    """The bounds of a number in JSON Schema: "0 to 10", "more than 0 and at most 100"."""
    if "minimum" in schema and "maximum" in schema:
        return f"{schema['minimum']:,} to {schema['maximum']:,}"
    bounds = {
        "exclusiveMinimum": "more than",
        "minimum": "at least",
        "exclusiveMaximum": "less than",
        "maximum": "at most",
    }
    return " and ".join(f"{words} {schema[keyword]:,}" for keyword, words in bounds.items() if keyword in schema)
