"""How messages list alternatives, suggest the nearest name, and quote a value."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from difflib import get_close_matches

LISTED = 12
"""At most so many alternatives are listed in one message; more would bury it."""
COMPARED = 100
"""Characters of a name that are compared: comparing takes time in the square of the length."""


def listed(values: Sequence[object], conjunction: str = "and") -> str:
    """`values` as a sentence lists them: "5, 10 or 15"."""
    names = [str(value) for value in values[:LISTED]]
    if len(values) > LISTED:
        return f"{', '.join(names)}, … ({len(values)} in all)"
    return f" {conjunction} ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def nearest_hint(name: str, candidates: Collection[str]) -> str:
    """The hint "did you mean …?" with the most similar candidate; empty where none is similar."""
    matches = get_close_matches(name[:COMPARED], candidates, n=1)
    return f"did you mean {matches[0]}?" if matches else ""


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
