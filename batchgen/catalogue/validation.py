"""Holding a job's parameters against the schema of its model."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from typing import Any

from jsonschema_rs import Draft202012Validator, ValidationError

from batchgen.catalogue import register
from batchgen.catalogue.links import escape

INTEGER = re.compile(r"[-+]?[0-9]{1,18}")
NUMBER = re.compile(r"[-+]?([0-9]{1,18}(\.[0-9]{0,30})?|\.[0-9]{1,30})([eE][-+]?[0-9]{1,2})?")
LISTED = 12
"""So many names or values are spelt out in a message; of more, the rest is counted."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing a model does not take. `pointer` is the JSON pointer of the value; of its container if it is missing.

    `unknown`: the name itself is wrong, not the value.
    """

    pointer: str
    message: str
    hint: str = ""
    unknown: bool = False


@cache
def parameters(model: str, endpoint: str) -> tuple[str, ...]:
    """The names `model` takes on this path, without `model` itself; the required ones first."""
    schema = register.schema(model, endpoint)
    required = [name for name in schema["required"] if name != "model"]
    return (*required, *(name for name in schema["properties"] if name != "model" and name not in required))


def coerced(model: str, endpoint: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """`params` with text that reads as the number or truth value a schema wants made that ("5" → 5), and numbers that
    stand for one of a list of texts made that text. All else is left as it is, right or wrong."""
    if _validator(model, endpoint).is_valid(params):
        return dict(params)
    flexible = _flexible(model, endpoint)
    return {name: _fit(flexible[name], value) if name in flexible else value for name, value in params.items()}


def checked(
    model: str, endpoint: str, params: dict[str, Any], known: Collection[str] = ()
) -> tuple[dict[str, Any], list[Violation]]:
    """`params` (without `model`) as `coerced` makes them, and everything in them that the model would not take.

    `known` are names the caller uses beside the parameters: they are suggested for a misspelt one.
    Raises KeyError for an unknown model or path.
    """
    validator = _validator(model, endpoint)
    if validator.is_valid(params):
        return params, []
    params = coerced(model, endpoint, params)
    found: dict[str, Violation] = {}
    # Of several things wrong with one value, the list of what is allowed says most.
    for error in sorted(validator.iter_errors(params), key=_weight):
        for violation in _explain(model, endpoint, error, known):
            key = violation.message if _word(error) == "Required" else violation.pointer
            found.setdefault(key, violation)
    return params, list(found.values())


def violations(model: str, endpoint: str, params: Mapping[str, Any], known: Collection[str] = ()) -> list[Violation]:
    """Everything in `params` that the model would not take; what `coerced` converts is fine. See `checked`."""
    return checked(model, endpoint, dict(params), known)[1]


def choices(values: Sequence[object], conjunction: str = "or") -> str:
    """`values` as a person would list them: "5 or 10"."""
    shown = [str(value) for value in values[:LISTED]]
    if len(values) > LISTED:
        return f"{', '.join(shown)}, … ({len(values)} in all)"
    return f" {conjunction} ".join(filter(None, (", ".join(shown[:-1]), *shown[-1:])))


@cache
def _validator(model: str, endpoint: str) -> Draft202012Validator:
    schema = register.schema(model, endpoint)
    own = {name: value for name, value in schema["properties"].items() if name != "model"}
    required = [name for name in schema["required"] if name != "model"]
    return Draft202012Validator({**schema, "properties": own, "required": required})


@cache
def _flexible(model: str, endpoint: str) -> dict[str, dict[str, Any]]:
    """The parameters whose values `_fit` may change."""
    properties: dict[str, dict[str, Any]] = register.schema(model, endpoint)["properties"]
    rigid = {"type", "format", "maxLength", "minLength", "x-media"}
    return {name: each for name, each in properties.items() if each.get("type") != "string" or not each.keys() <= rigid}


def _fit(schema: Mapping[str, Any], value: Any) -> Any:
    for branch in schema.get("anyOf") or schema.get("oneOf") or ():
        if (fitted := _fit(branch, value)) != value:
            return fitted
    wanted, allowed = schema.get("type"), schema.get("enum")
    match value:
        case str() if wanted == "integer" and INTEGER.fullmatch(value):
            return int(value)
        case str() if wanted == "number" and NUMBER.fullmatch(value):
            return int(value) if INTEGER.fullmatch(value) else float(value)
        case "true" | "false" | "True" | "False" | "TRUE" | "FALSE" if wanted == "boolean":
            return value.lower() == "true"
        case bool():
            return value
        case int() | float() if wanted == "string" and str(value) in (allowed or ()):
            return str(value)
        case int() if wanted == "string" and NUMBER.fullmatch(str(schema.get("default"))):
            # A length in seconds that the schema wants as text.
            return str(value)
        case list() if "items" in schema:
            return [_fit(schema["items"], item) for item in value]
        case dict() if "properties" in schema:
            return {name: _fit(schema["properties"].get(name, {}), item) for name, item in value.items()}
    return value


def _word(error: ValidationError) -> str:
    return type(error.kind).__name__


def _weight(error: ValidationError) -> tuple[int, list[str]]:
    rank = {"Enum": 0, "Type": 1}.get(_word(error), 2)
    return rank, [str(part) for part in error.instance_path]


def _explain(model: str, endpoint: str, error: ValidationError, known: Collection[str]) -> Iterator[Violation]:
    pointer = "".join(f"/{escape(str(part))}" for part in error.instance_path)
    name = _spoken(error.instance_path)
    at = _schema_at(model, endpoint, error.schema_path)
    kind: Any = error.kind
    match _word(error):
        case "Required":
            whose = f"`{name}`" if name else f"`{model}`"
            yield Violation(pointer, f"{whose} needs `{kind.property}`")
        case "AdditionalProperties":
            for unexpected in kind.unexpected:
                yield _unknown(model, endpoint, pointer, unexpected, at, known)
        case "AnyOf" | "OneOfNotValid":
            likeliest = min(kind.context, key=lambda errors: _distance(errors, len(error.instance_path)))
            for nested in sorted(likeliest, key=_weight):
                yield from _explain(model, endpoint, nested, known)
        case "Enum":
            close = get_close_matches(str(error.instance)[:100], [str(allowed) for allowed in at["enum"]], n=1)
            hint = f"did you mean {close[0]}?" if close else ""
            yield Violation(pointer, f"`{name}` must be {choices(at['enum'])}, not {shown(error.instance)}", hint)
        case "Type":
            hint = (
                "put it in quotes to make it text" if at.get("type") == "string" and _is_number(error.instance) else ""
            )
            yield Violation(pointer, f"`{name}` must be {_types(at)}, not {shown(error.instance)}", hint)
        case "Minimum" | "Maximum" | "ExclusiveMinimum" | "ExclusiveMaximum":
            yield Violation(pointer, f"`{name}` must be {_range(at)}, not {shown(error.instance)}")
        case "MinLength" if error.instance == "":
            yield Violation(pointer, f"`{name}` must not be empty")
        case "MaxLength" | "MinLength":
            bound = f"at most {at['maxLength']}" if _word(error) == "MaxLength" else f"at least {at['minLength']}"
            yield Violation(pointer, f"`{name}` must have {bound} characters, not {len(str(error.instance))}")
        case "MaxItems" | "MinItems":
            length = len(error.instance) if isinstance(error.instance, list) else 0
            bound = " to ".join(str(at[key]) for key in ("minItems", "maxItems") if key in at)
            edge = "" if "minItems" in at and "maxItems" in at else "at most " if "maxItems" in at else "at least "
            yield Violation(pointer, f"`{name}` must have {edge}{bound} entries, not {length}")
        case _:
            yield Violation(pointer, f"`{name}`: {error.message[:200]}")


def _unknown(
    model: str, endpoint: str, pointer: str, name: str, at: Mapping[str, Any], known: Collection[str]
) -> Violation:
    taken = list(at["properties"]) if pointer else [*parameters(model, endpoint), *known]
    elsewhere = [path for path in register.endpoints(model) if name in register.schema(model, path)["properties"]]
    if not pointer and elsewhere:
        hint = f"only the {register.style_of(elsewhere[0])} endpoint takes it"
    elif close := get_close_matches(name[:100], taken, n=1):
        hint = f"did you mean {close[0]}?"
    else:
        hint = f"known: {choices(taken[: len(taken) - len(known)] if not pointer else taken, 'and')}"
    whose = f"`{_spoken(pointer.split('/')[1:])}`" if pointer else f"`{model}`"
    return Violation(f"{pointer}/{escape(name)}", f"{whose} does not take `{name[:100]}`", hint, unknown=True)


def _distance(errors: Sequence[ValidationError], depth: int) -> tuple[bool, bool, int]:
    """How far a value is from one alternative: of another type altogether, of another `type` word, or just faulty."""
    other = any(_word(error) == "Type" and len(error.instance_path) == depth for error in errors)
    return other, any(error.instance_path[-1:] == ["type"] for error in errors), len(errors)


def _schema_at(model: str, endpoint: str, path: Sequence[str | int]) -> Mapping[str, Any]:
    at: Any = register.schema(model, endpoint)
    for part in path[:-1]:
        at = at[part]
    return at if isinstance(at, dict) else {}


def _spoken(path: Sequence[str | int]) -> str:
    return "".join(f"[{part}]" if str(part).isdigit() else f".{part}" for part in path).removeprefix(".")


def _types(schema: Mapping[str, Any]) -> str:
    words = {
        "integer": "a whole number",
        "number": "a number",
        "string": "text",
        "boolean": "true or false",
        "array": "a list",
        "object": "a mapping",
        "null": "null",
    }
    return words.get(str(schema.get("type")), "something else")


def _range(schema: Mapping[str, Any]) -> str:
    least, most = schema.get("minimum"), schema.get("maximum")
    if least is not None and most is not None:
        return f"{least} to {most}"
    if "exclusiveMinimum" in schema:
        return f"more than {schema['exclusiveMinimum']}"
    if "exclusiveMaximum" in schema:
        return f"less than {schema['exclusiveMaximum']}"
    return f"at least {least}" if least is not None else f"at most {most}"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def shown(value: object) -> str:
    """A value as the manifest would write it, cut to a few words."""
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
