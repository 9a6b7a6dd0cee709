"""Placeholders as other tools write them, such as `{title}` and `$title`: they would be paid for as they stand."""

import re
from collections.abc import Container, Mapping
from typing import Any

TEMPLATE = re.compile(r"\{\{.*?\}\}", re.DOTALL)
PLACEHOLDER = re.compile(
    r"""
      \$?\{ \s* (?P<brace>\w+) \s* \}     # {title}, ${title}
    | \{% [^%]*? \b(?P<block>\w+) \s* %\} # {% if title %}
    | %\( \s* (?P<printf>\w+) \s* \)s     # %(title)s
    | %(?P<percent>\w+)%                  # %title%
    | <+ \s* (?P<angle>\w+) \s* >+        # <title>, <<title>>
    | \[+ \s* (?P<square>\w+) \s* \]+     # [title], [[title]]
    | \$(?P<dollar>\w+)                   # $title
    """,
    re.VERBOSE | re.ASCII,
)


def placeholder(text: str, names: Container[str]) -> tuple[str, str] | None:
    """The first placeholder of one of the `names` that is no template, and the name in it; None where there is none."""
    for match in PLACEHOLDER.finditer(TEMPLATE.sub("", text)):
        name = match[match.lastgroup or 0]
        if name in names:
            return match[0], name
    return None


def placeholder_in(row: Mapping[str, Any]) -> str | None:
    """The first template in the values of a row, which are never read as templates; None where there is none."""
    matches = (TEMPLATE.search(value) for value in row.values() if isinstance(value, str))
    return next((match[0] for match in matches if match), None)
