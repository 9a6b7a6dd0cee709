"""The values in a template, and what an expression between `{{` and `}}` does with them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from batchgen.catalogue.wording import suggestion
from batchgen.catalogue.written import Written, text_of
from batchgen.files.input_file import InputFault

LONGEST_TEXT = 10_000
"""Characters of a filter's result, so that repeated filters cannot exhaust memory."""
STRING = r'"(?:\\.|[^"\\])*"|' + r"'(?:\\.|[^'\\])*'"
QUOTED = re.compile(STRING, re.DOTALL)
PARTS = ("name", "stem", "suffix", "parent")
"""The parts of a path, such as `{{ image.stem }}`."""
ARITHMETIC = re.compile(r"[-+/%]|\|\s*(abs|float|format|int|round)\b")
"""What needs numbers. Elsewhere a number that Python would write otherwise, such as 007, stands as a text."""


class BadTemplate(InputFault):
    """The template cannot be filled in. `str(error)` says why, `hint` what to write instead."""


class UnknownName(BadTemplate):
    """The template uses a name that does not exist."""


class PathText:
    """A text with the parts of a path, which are such texts themselves."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __str__(self) -> str:
        return self.text

    def __getattr__(self, part: str) -> PathText:
        if part not in PARTS:
            raise AttributeError(part)
        return PathText(path_part(self.text, part))


def path_part(text: str, part: str) -> str:
    """A part of a path. Of a link, what follows `?` or `#` belongs to none."""
    path = re.split(r"[?#]", text, maxsplit=1)[0] if "://" in text[:12] else text
    if part == "parent":  # not as pathlib has it, for which `https://` is `https:/`
        folder, slash, _ = path.rpartition("/")
        return folder or slash or "."
    return str(getattr(PurePosixPath(path), part))


@dataclass(frozen=True, slots=True)
class Expression:
    """What stands between `{{` and `}}`, where it is more than a name and its parts."""

    code: str
    """The template that minijinja renders."""
    names: tuple[str, ...]
    paths: tuple[tuple[str, ...], ...]
    """The names with the parts taken of them: (name, part, part of the part…)."""
    is_arithmetic: bool


def operands(expression: Expression, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of the names in an expression, as minijinja shall see them."""
    operands = {name: operand(values[name], expression) for name in expression.names}
    for name, value in operands.items():
        if (type(value) is list or type(value) is dict) and not is_taken_apart(name, expression.code):
            single_text(name, value)
    for name, *parts in expression.paths:
        if type(values[name]) is str:
            part_of(values, name, *parts)
            operands[name] = PathText(values[name])
    return operands


def operand(value: Any, expression: Expression) -> Any:
    """A number where it is needed as one, or shows as it was written; else its text. Null is empty."""
    match value:
        case Written(value=bool()):
            return value.value
        case Written(value=number, text=written):
            # minijinja shows 5.0 as 5.
            is_shown_so = str(number) == written and not (isinstance(number, float) and number.is_integer())
            return number if expression.is_arithmetic or is_shown_so else written
        case None if "none" not in expression.code.lower():
            return ""
        case dict():
            return {name: operand(member, expression) for name, member in value.items()}
        case list():
            return [operand(item, expression) for item in value]
    return value


def is_taken_apart(name: str, code: str) -> bool:
    """Whether an expression uses a list or a mapping by its members only."""
    alone = rf"(?<![\w.])(?<!in )(?<!if )(?<!not )(?<!and )(?<!or ){name}\b(?!\s*(\.|\[|\|\s*(length|first|last)\b))"
    return not re.search(alone, QUOTED.sub("''", code))


def single_text(name: str, value: object) -> str:
    """The text of a value in the middle of another. Raises BadTemplate for a list or a mapping, which has none."""
    if type(value) is not list and type(value) is not dict:
        return text_of(value)
    kind, member = ("a list", "[0]") if type(value) is list else ("a mapping", ".name")
    hint = f"name one value of it: {{{{ {name[:50]}{member} }}}}"
    raise BadTemplate(f"`{name[:100]}` is {kind}, which is no text", hint)


def may_be_empty(name: str) -> str:
    """The hint for a value that is missing, and how to say that it may be."""
    return f"fill it in, or write {{{{ {name[:50]} | default('') }}}} where it may be empty"


def finalized(value: object) -> str:
    """The text of an expression's result. Raises BadTemplate where it has none."""
    if isinstance(value, float) and not math.isfinite(value):
        raise BadTemplate(f"the result of the template is {value}, which is no number")
    try:
        return text_of(value)
    except TypeError as error:
        raise BadTemplate(f"the result of the template is no text: {error}") from None


def part_of(values: Mapping[str, Any], name: str, *parts: str) -> Any:
    """The part of a value: a member of a mapping, or a part of a path."""
    value = values[name]
    for depth, part in enumerate(parts):
        whole = ".".join((name, *parts[:depth]))
        if type(value) is dict and part in value:
            value = value[part]
        elif type(value) is str and part in PARTS:
            value = path_part(value, part)
        else:
            choices = PARTS if type(value) is str else list(value) if type(value) is dict else ()
            hint = suggestion(part, choices) if choices else ""
            raise BadTemplate(f"`{whole[:100]}` has no part `{part[:100]}`", hint)
    return value


def replace(value: object, old: object, new: object) -> str:
    """The filter `replace`. Raises `BadTemplate` before it makes a text that is too long."""
    text, old, new = text_of(value), text_of(old), text_of(new)
    if len(text) + (text.count(old) + 1) * len(new) > LONGEST_TEXT:
        raise BadTemplate("`replace` makes the text too long")
    return text.replace(old, new)


def format_numbers(pattern: object, *values: object) -> str:
    """The filter `format`, as % of Python. Raises `BadTemplate` for what cannot be done, or makes too long a text."""
    if re.search(r"\d{3}|\*", str(pattern)):
        raise BadTemplate("`format` pads to at most 99 characters")
    longest = max((len(str(value)) for value in values), default=0)
    if len(str(pattern)) + str(pattern).count("%") * longest > LONGEST_TEXT:
        raise BadTemplate("`format` makes the text too long")
    try:
        return str(pattern) % tuple(value if type(value) in (int, float) else text_of(value) for value in values)
    except (TypeError, ValueError, OverflowError) as error:
        raise BadTemplate(f"`format` cannot be done: {error}") from None
