"""Checks a job's parameters against the JSON Schema of its model, and explains what is wrong with them."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Any

from jsonschema_rs import Draft202012Validator, ValidationError

from batchgen.catalogue import register, rules
from batchgen.catalogue.pointers import join, split
from batchgen.catalogue.wording import TYPE_NAMES, allowed_range, listed, nearest_hint, quoted
from batchgen.catalogue.written import Written, trimmed

INTEGER = re.compile(r"[-+]?[0-9]{1,18}")
VIOLATIONS = 200
"""Errors of one request that are explained: a list of a thousand wrong values needs no thousand messages."""
NUMBER = re.compile(r"[-+]?([0-9]{1,18}(\.[0-9]{0,30})?|\.[0-9]{1,30})([eE][-+]?[0-9]{1,2})?")

DECIMAL_COMMA = re.compile(r"^([-+]?[0-9]{1,18}),([0-9]{1,2})$")


@dataclass(frozen=True, slots=True)
class Violation:
    """One parameter that the model refuses. `pointer` is the JSON pointer of its value, or of its container.

    `unknown`: the model has no parameter of this name.
    """

    pointer: str
    message: str
    hint: str = ""
    unknown: bool = False


@cache
def parameters(model: str, endpoint: str) -> tuple[str, ...]:
    """The names of the model's parameters on this path, without `model` itself, the required ones first."""
    schema = register.schema(model, endpoint)
    required = [name for name in schema["required"] if name != "model"]
    return (*required, *(name for name in schema["properties"] if name != "model" and name not in required))


def checked(
    model: str, endpoint: str, params: Mapping[str, Any], other_keys: Collection[str] = ()
) -> tuple[dict[str, Any], list[Violation]]:
    """`params` (without `model`) converted to the types of the schema, and all violations in them.

    A number stands in a text as it was written; text becomes a number or a truth value ("5" → 5), and a number becomes
    one of the texts that the schema lists. A value that cannot be converted stays as it is. A misspelt parameter may be
    one of the caller's `other_keys`. Raises KeyError for an unknown model or path.
    """
    properties = register.schema(model, endpoint)["properties"]
    params = dict(params)
    for name, value in params.items():
        if type(value) is not str:
            params[name] = _typed(properties.get(name, {}), value)
    validator = _validator(model, endpoint)
    if validator.is_valid(params):
        return params, _broken_rules(model, params)
    convertible = _convertible(model, endpoint)
    params = {name: _fit(convertible[name], value) if name in convertible else value for name, value in params.items()}
    first: dict[str, Violation] = {}
    # One violation a value: the errors are sorted by how much they explain.
    for error in sorted(islice(validator.iter_errors(params), VIOLATIONS), key=_rank):
        for violation in _explain(model, endpoint, error, other_keys):
            key = violation.message if _keyword(error) == "Required" else violation.pointer
            first.setdefault(key, violation)
    return params, list(first.values()) or _broken_rules(model, params)


def _broken_rules(model: str, params: Mapping[str, Any]) -> list[Violation]:
    """The violations of rules between parameters. A null counts as a parameter that is not there."""
    present = {name: value for name, value in params.items() if value is not None}
    return [
        Violation(f"/{condition.parameter}" if condition.parameter in params else "", f"`{model}` {condition.message}")
        for condition in rules.broken(register.canonical(model), present)
    ]


def violations(model: str, endpoint: str, params: Mapping[str, Any]) -> list[Violation]:
    """All violations in `params` after conversion; see `checked`."""
    return checked(model, endpoint, dict(params))[1]


@cache
def _validator(model: str, endpoint: str) -> Draft202012Validator:
    schema = register.schema(model, endpoint)
    own = {name: value for name, value in schema["properties"].items() if name != "model"}
    required = [name for name in schema["required"] if name != "model"]
    return Draft202012Validator({**schema, "properties": own, "required": required})


@cache
def _convertible(model: str, endpoint: str) -> dict[str, dict[str, Any]]:
    """The parameters with values that `_fit` may convert."""
    properties: dict[str, dict[str, Any]] = register.schema(model, endpoint)["properties"]
    rigid = {"type", "format", "maxLength", "minLength", "x-media"}
    return {
        name: schema
        for name, schema in properties.items()
        if schema.get("type") != "string" or not schema.keys() <= rigid
    }


@cache
def texts() -> frozenset[str]:
    """The names of the parameters, of all models, that take a text of any wording."""
    names = {"prompt", "negative_prompt"}
    for model in register.models():
        for endpoint in register.endpoints(model):
            for name, schema in register.schema(model, endpoint)["properties"].items():
                if name != "model" and "x-media" not in schema and _takes_any_text(schema.get("items", schema)):
                    names.add(name)
    return frozenset(names)


def _branches(schema: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The alternatives of a schema; the schema itself where it has none."""
    branches: Sequence[Mapping[str, Any]] = schema.get("anyOf") or schema.get("oneOf") or (schema,)
    return branches


def _takes_any_text(schema: Mapping[str, Any]) -> bool:
    """Whether a schema takes every text, and no number: no choice, and no number of seconds as text."""
    branches = _branches(schema)
    types = {branch.get("type") for branch in branches}
    if "string" not in types or not types <= {"string", "null"} or any("enum" in branch for branch in branches):
        return False
    return not NUMBER.fullmatch(str(schema.get("default")))


def _typed(schema: Mapping[str, Any], value: Any) -> Any:
    """`value` with each `Written` number in it as the schema takes it: as its text, a whole number, or as it is."""
    kind = type(value)
    if kind is Written:
        number = value.value
        if schema.get("type") == "integer" and type(number) is int:
            return number
        if type(number) is not bool and _takes_any_text(schema):
            return value.text
        types = {branch.get("type") for branch in _branches(schema)}
        if type(number) is float and number.is_integer() and types & {"integer", "string"} and "number" not in types:
            return int(number)  # a spreadsheet writes 5 as 5.0
        return number
    if kind is dict:
        members: dict[str, Any] = {}
        for branch in _branches(schema):
            members = branch.get("properties", {}) | members
        return {name: _typed(members.get(name, {}), member) for name, member in value.items()}
    if kind is list:
        items: Mapping[str, Any] = next((branch["items"] for branch in _branches(schema) if "items" in branch), {})
        return [_typed(items, item) for item in value]
    return value


def _fit(schema: Mapping[str, Any], value: Any) -> Any:
    for branch in schema.get("anyOf") or schema.get("oneOf") or ():
        if (fitted := _fit(branch, value)) != value:
            return fitted
    expected, allowed = schema.get("type"), schema.get("enum")
    if isinstance(value, str) and (expected in ("integer", "number", "boolean") or allowed):
        value = trimmed(value) or value
    match value:
        case str() if expected in ("integer", "number") and (number := _number(value)) is not None:
            whole = isinstance(number, float) and number.is_integer() and expected == "integer"
            return int(number) if whole else number
        case str() if expected == "boolean" and value.casefold() in ("true", "false"):
            return value.casefold() == "true"
        case bool():
            return value
        case str() if expected == "string" and allowed and value not in allowed:
            same = [word for word in allowed if isinstance(word, str) and word.casefold() == value.casefold()]
            same = same or [word for word in allowed if _number(str(word)) == _number(value) is not None]
            return same[0] if len(same) == 1 else value
        case int() | float() if expected == "string" and str(value) in (allowed or ()):
            return str(value)
        case int() if expected == "string" and NUMBER.fullmatch(str(schema.get("default"))):
            # The schema has the clip's length in seconds as text.
            return str(value)
        case list() if "items" in schema:
            return [_fit(schema["items"], item) for item in value]
        case dict() if "properties" in schema:
            return {name: _fit(schema["properties"].get(name, {}), item) for name, item in value.items()}
    return value


def _number(text: str) -> int | float | None:
    """The number that a text is; one or two digits behind a comma are decimals, as European spreadsheets write them."""
    if INTEGER.fullmatch(text):
        return int(text)
    text = DECIMAL_COMMA.sub(r"\1.\2", text)
    return float(text) if NUMBER.fullmatch(text) else None


def _keyword(error: ValidationError) -> str:
    """The keyword of JSON Schema that the value fails, such as "Enum"."""
    return type(error.kind).__name__


def _rank(error: ValidationError) -> tuple[int, list[str]]:
    """Lower explains more: a list of the allowed values, then a type, then all else."""
    rank = {"Enum": 0, "Type": 1}.get(_keyword(error), 2)
    return rank, [str(part) for part in error.instance_path]


def _explain(model: str, endpoint: str, error: ValidationError, other_keys: Collection[str]) -> Iterator[Violation]:
    pointer = "".join(join("", part) for part in error.instance_path)
    name = _dotted(error.instance_path)
    schema = _schema_of(model, endpoint, error.schema_path)
    kind: Any = error.kind
    value: Any = error.instance
    hint = ""
    match _keyword(error):
        case "Required":
            yield Violation(pointer, f"`{name or model}` needs `{kind.property}`")
            return
        case "AdditionalProperties":
            for unexpected in kind.unexpected:
                yield _unknown(model, endpoint, pointer, unexpected, schema, other_keys)
            return
        case "AnyOf" | "OneOfNotValid":
            closest = min(kind.context, key=lambda errors: _distance(errors, len(error.instance_path)))
            for nested in sorted(closest, key=_rank):
                yield from _explain(model, endpoint, nested, other_keys)
            return
        case "Enum":
            expected = f"be {listed(schema['enum'], 'or')}, not {quoted(value)}"
            hint = nearest_hint(str(value), [str(allowed) for allowed in schema["enum"]])
        case "Type":
            expected = f"be {TYPE_NAMES.get(str(schema.get('type')), 'something else')}, not {quoted(value)}"
            if schema.get("type") == "string" and isinstance(value, int | float):
                hint = "put it in quotes to make it text"
        case "Minimum" | "Maximum" | "ExclusiveMinimum" | "ExclusiveMaximum":
            expected = f"be {allowed_range(schema)}, not {quoted(value)}"
        case "MinLength" if value == "":
            expected = "not be empty"
        case "MaxLength" | "MinLength":
            expected = f"have {_size(schema, 'Length')} characters, not {len(value)}"
        case "MaxItems" | "MinItems":
            expected = f"have {_size(schema, 'Items')} entries, not {len(value)}"
        case _:
            yield Violation(pointer, f"`{name}`: {error.message[:200]}")
            return
    yield Violation(pointer, f"`{name}` must {expected}", hint)


def _unknown(
    model: str, endpoint: str, pointer: str, name: str, schema: Mapping[str, Any], other_keys: Collection[str]
) -> Violation:
    own = list(schema["properties"]) if pointer else parameters(model, endpoint)
    elsewhere = [path for path in register.endpoints(model) if name in register.schema(model, path)["properties"]]
    if not pointer and elsewhere:
        hint = f"only the {register.style_of(elsewhere[0])} endpoint takes it"
    else:
        hint = nearest_hint(name, own if pointer else [*own, *other_keys]) or f"known: {listed(own)}"
    owner = f"`{_dotted(split(pointer))}`" if pointer else f"`{model}`"
    return Violation(join(pointer, name), f"{owner} does not take `{name[:100]}`", hint, unknown=True)


def _distance(errors: Sequence[ValidationError], depth: int) -> tuple[bool, bool, int]:
    """How far a value is from an alternative of a schema: another JSON type is farthest, then another `type` member."""
    other_type = any(_keyword(error) == "Type" and len(error.instance_path) == depth for error in errors)
    return other_type, any(error.instance_path[-1:] == ["type"] for error in errors), len(errors)


def _schema_of(model: str, endpoint: str, path: Sequence[str | int]) -> Mapping[str, Any]:
    """The schema that holds the keyword at the end of `path`."""
    schema: Any = register.schema(model, endpoint)
    for part in path[:-1]:
        schema = schema[part]
    return schema if isinstance(schema, dict) else {}


def _dotted(path: Sequence[str | int]) -> str:
    """A path as messages show it: "camera_control.config.zoom", "masks[0].mask"."""
    return "".join(f"[{part}]" if str(part).isdigit() else f".{part}" for part in path).removeprefix(".")


def _size(schema: Mapping[str, Any], unit: str) -> str:
    """The bounds of a length, by the keywords minLength and maxLength, or minItems and maxItems."""
    minimum, maximum = schema.get(f"min{unit}"), schema.get(f"max{unit}")
    if minimum is not None and maximum is not None:
        return f"{minimum} to {maximum}"
    return f"at most {maximum}" if minimum is None else f"at least {minimum}"
