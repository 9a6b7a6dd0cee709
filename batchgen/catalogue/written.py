"""Values as a person wrote them: a number keeps its text, so that `007` and `1.10` keep their shape in longer texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

BLANKS = "".join(char for char in map(chr, range(0x3001)) if char.isspace()) + "\u200b\u2060\ufeff"
"""White space (U+3000 is the last), and the characters without width that spreadsheets and web pages leave around."""


@dataclass(slots=True, repr=False)
class Written:
    """A number or truth value, with the text that it was written as."""

    value: int | float | bool
    text: str

    def __str__(self) -> str:
        return self.text

    __repr__ = __str__
    """Also in a list, of which there may be thousands: that of a dataclass is slow."""


def trimmed(text: str) -> str:
    """`text` without the blanks around it, which nobody sees in a name, a link or a path."""
    return text.strip(BLANKS)


def text_of(value: object) -> str:
    """The text of a single value: null is empty. Raises TypeError for a list or a mapping, which has none."""
    match value:
        case str():
            return value
        case None:
            return ""
        case bool():
            return str(value).lower()
        case list() | dict():
            raise TypeError(f"a {'list' if isinstance(value, list) else 'mapping'} is no text")
    return str(value)


def shown(value: object) -> str:
    """A value in a message: its text, a list or mapping by its kind alone."""
    return "a list" if isinstance(value, list) else "a mapping" if isinstance(value, dict) else text_of(value)


def plain(value: Any) -> Any:
    """`value` with the number or truth value in place of each `Written`, at any depth."""
    match value:
        case Written():
            return value.value
        case dict():
            return {name: plain(member) for name, member in value.items()}
        case list():
            return [plain(item) for item in value]
    return value
