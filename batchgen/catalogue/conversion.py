"""Converts values of a request to the types that the JSON Schema of its model asks for.

A manifest or a spreadsheet may write `5`, `"5"`, `5.0` or `"5,0"` for the same. A value that cannot be converted stays
as it is: `validation.py` explains what is wrong with it.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from batchgen.catalogue.written import Written, trimmed

INTEGER = re.compile(r"[-+]?[0-9]{1,18}")
NUMBER = re.compile(r"[-+]?([0-9]{1,18}(\.[0-9]{0,30})?|\.[0-9]{1,30})([eE][-+]?[0-9]{1,2})?")
INTEGER_END = 10**18  # beyond the longest that `INTEGER` matches
DECIMAL_COMMA = re.compile(r"^([-+]?[0-9]{1,18}),([0-9]{1,2})$")
"""A number as European spreadsheets write it: one or two decimals behind a comma."""


def branches_of(schema: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The alternatives of a schema; the schema itself where it has none."""
    branches: Sequence[Mapping[str, Any]] = schema.get("anyOf") or schema.get("oneOf") or (schema,)
    return branches


def takes_any_text(schema: Mapping[str, Any]) -> bool:
    """Whether a schema takes every text, and no number: no choice, and no number of seconds as text."""
    branches = branches_of(schema)
    types = {branch.get("type") for branch in branches}
    if "string" not in types or not types <= {"string", "null"} or any("enum" in branch for branch in branches):
        return False
    return not NUMBER.fullmatch(str(schema.get("default")))


def read_written(schema: Mapping[str, Any], value: Any) -> Any:
    """`value` with each `Written` number in it as the schema takes it: as its text, a whole number, or as it is."""
    kind = type(value)
    if kind is Written:
        number = value.value
        if schema.get("type") == "integer" and type(number) is int:
            return number
        if type(number) is not bool and takes_any_text(schema):
            return value.text
        types = {branch.get("type") for branch in branches_of(schema)}
        if type(number) is float and types & {"integer", "string"} and "number" not in types:
            return as_integer(number)  # a spreadsheet writes 5 as 5.0
        return number
    if kind is dict:
        members: dict[str, Any] = {}
        for branch in branches_of(schema):
            members = branch.get("properties", {}) | members
        return {name: read_written(members.get(name, {}), member) for name, member in value.items()}
    if kind is list:
        items: Mapping[str, Any] = next((branch["items"] for branch in branches_of(schema) if "items" in branch), {})
        return [read_written(items, item) for item in value]
    return value


def convert(schema: Mapping[str, Any], value: Any) -> Any:
    """`value` as a schema takes it: text as a number, a truth value or the text of a choice, a number as a text.

    Members and items are converted, too. What does not fit stays as it is.
    """
    for branch in schema.get("anyOf") or schema.get("oneOf") or ():
        if (fitted := convert(branch, value)) != value:
            return fitted
    expected, allowed = schema.get("type"), schema.get("enum")
    if isinstance(value, str) and (expected in ("integer", "number", "boolean") or allowed):
        value = trimmed(value) or value
    match value:
        case str() if expected in ("integer", "number") and (number := number_of(value)) is not None:
            return as_integer(number) if expected == "integer" else number
        case str() if expected == "boolean" and value.casefold() in ("true", "false"):
            return value.casefold() == "true"
        case bool():
            return value
        case str() if expected == "string" and allowed and value not in allowed:
            return as_choice(value, allowed)
        case int() | float() if expected == "string" and str(value) in (allowed or ()):
            return str(value)
        case int() if expected == "string" and NUMBER.fullmatch(str(schema.get("default"))):
            # The schema has the clip's length in seconds as text.
            return str(value)
        case list() if "items" in schema:
            return [convert(schema["items"], item) for item in value]
        case dict() if "properties" in schema:
            return {name: convert(schema["properties"].get(name, {}), item) for name, item in value.items()}
    return value


def as_choice(text: str, allowed: Sequence[Any]) -> Any:
    """The one choice that is the same text in other letters, or the same number; else the text."""
    same = [word for word in allowed if isinstance(word, str) and word.casefold() == text.casefold()]
    number = number_of(text)
    if not same and number is not None:
        same = [word for word in allowed if number_of(str(word)) == number]
    return same[0] if len(same) == 1 else text


def as_integer(number: float) -> int | float:
    """A whole number as an integer, unless it has more digits than a manifest can hold: then it stays 1e19."""
    is_short = type(number) is float and number.is_integer() and abs(number) < INTEGER_END
    return int(number) if is_short else number


def number_of(text: str) -> int | float | None:
    """The number that a text is, or None."""
    if INTEGER.fullmatch(text):
        return int(text)
    text = DECIMAL_COMMA.sub(r"\1.\2", text)
    return float(text) if NUMBER.fullmatch(text) else None
