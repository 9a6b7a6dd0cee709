"""Checks a job's parameters against the JSON Schema of its model, and explains what is wrong with them."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Any

from jsonschema_rs import Draft202012Validator, ValidationError

from batchgen.catalogue import register, rules
from batchgen.catalogue.conversion import convert, read_written, takes_any_text
from batchgen.catalogue.pointers import join, split
from batchgen.catalogue.wording import TYPE_NAMES, allowed_range, did_you_mean, list_hint, listed, nearest_hint, quoted

ERRORS_MAX = 200
"""Errors of one request that are explained: a list of a thousand wrong values needs no thousand messages."""

OTHER_WORDS = {
    "prompt": ("text", "description", "caption"),
    "image_url": ("image", "photo", "picture", "first_frame"),
    "duration": ("seconds", "length"),
    "aspect_ratio": ("ratio",),
    "count": ("n", "repeat", "repeats", "copies", "takes"),
    "id": ("name", "title"),
    "output": ("file", "filename", "path"),
}
"""What people and other tools call a parameter or a key, where its own name is not similar."""


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


def check_params(
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
            params[name] = read_written(properties.get(name, {}), value)
    validator = validator_of(model, endpoint)
    if validator.is_valid(params):
        return params, broken_rules(model, params)
    params = {name: convert(properties.get(name, {}), value) for name, value in params.items()}
    first: dict[str, Violation] = {}
    # One violation a value, the first: the errors are sorted, those that explain most in front.
    for error in sorted(islice(validator.iter_errors(params), ERRORS_MAX), key=rank_of):
        for violation in violations_of(model, endpoint, error, other_keys):
            key = violation.message if keyword_of(error) == "Required" else violation.pointer
            first.setdefault(key, violation)
    return params, list(first.values()) or broken_rules(model, params)


def broken_rules(model: str, params: Mapping[str, Any]) -> list[Violation]:
    """The violations of rules between parameters. A null counts as a parameter that is not there."""
    present = {name: value for name, value in params.items() if value is not None}
    return [
        Violation(f"/{condition.parameter}" if condition.parameter in params else "", f"`{model}` {condition.message}")
        for condition in rules.conditions(register.canonical(model))
        if not condition.validator.is_valid(present)
    ]


@cache
def validator_of(model: str, endpoint: str) -> Draft202012Validator:
    """The validator of the parameters of a request: the body without `model`."""
    schema = register.schema(model, endpoint)
    own = {name: value for name, value in schema["properties"].items() if name != "model"}
    required = [name for name in schema["required"] if name != "model"]
    return Draft202012Validator({**schema, "properties": own, "required": required})


@cache
def text_parameters() -> frozenset[str]:
    """The names of the parameters, of all models, that take a text of any wording."""
    bodies = (register.schema(model, path) for model in register.models() for path in register.endpoints(model))
    return frozenset(
        name
        for body in bodies
        for name, schema in body["properties"].items()
        if name != "model" and "x-media" not in schema and takes_any_text(schema.get("items", schema))
    )


def keyword_of(error: ValidationError) -> str:
    """The keyword of JSON Schema that the value fails, such as "Enum"."""
    return type(error.kind).__name__


def rank_of(error: ValidationError) -> tuple[int, list[str]]:
    """Lower explains more: a list of the allowed values, then a type, then all else."""
    rank = {"Enum": 0, "Type": 1}.get(keyword_of(error), 2)
    return rank, [str(part) for part in error.instance_path]


def violations_of(
    model: str, endpoint: str, error: ValidationError, other_keys: Collection[str]
) -> Iterator[Violation]:
    """The violations that an error of the validator stands for, in words for a person."""
    pointer = "".join(join("", part) for part in error.instance_path)
    name = dotted(error.instance_path)
    schema = schema_of(model, endpoint, error.schema_path)
    kind: Any = error.kind
    value: Any = error.instance
    hint = ""
    match keyword_of(error):
        case "Required":
            yield Violation(pointer, f"`{name or model}` needs `{kind.property}`")
            return
        case "AdditionalProperties":
            for unexpected in kind.unexpected:
                yield unknown_parameter(model, endpoint, pointer, unexpected, schema, other_keys)
            return
        case "AnyOf" | "OneOfNotValid":
            closest = min(kind.context, key=lambda errors: distance(errors, len(error.instance_path)))
            for nested in sorted(closest, key=rank_of):
                yield from violations_of(model, endpoint, nested, other_keys)
            return
        case "Enum":
            expected = f"be {listed(schema['enum'], 'or')}, not {quoted(value)}"
            hint = nearest_hint(str(value), [str(allowed) for allowed in schema["enum"]])
        case "Type":
            expected = f"be {TYPE_NAMES.get(str(schema.get('type')), 'something else')}, not {quoted(value)}"
            if schema.get("type") == "string" and isinstance(value, int | float):
                hint = "put it in quotes to make it text"
            elif schema.get("type") == "string" and isinstance(value, list) and name == "prompt":
                hint = 'a job has one; for a job each: matrix: {text: […]}, prompt: "{{ text }}"'
            elif schema.get("type") == "array":
                hint = list_hint(value)
        case "Minimum" | "Maximum" | "ExclusiveMinimum" | "ExclusiveMaximum":
            expected = f"be {allowed_range(schema)}, not {quoted(value)}"
        case "MinLength" if value == "":
            expected = "not be empty"
        case "MaxLength" | "MinLength":
            expected = f"have {size_text(schema, 'Length')} characters, not {len(value)}"
        case "MaxItems" | "MinItems":
            expected = f"have {size_text(schema, 'Items')} entries, not {len(value)}"
        case _:
            yield Violation(pointer, f"`{name}`: {error.message[:200]}")
            return
    yield Violation(pointer, f"`{name}` must {expected}", hint)


def unknown_parameter(
    model: str, endpoint: str, pointer: str, name: str, schema: Mapping[str, Any], other_keys: Collection[str]
) -> Violation:
    """The violation where the value at `pointer`, of this `schema`, has a `name` that it does not take; with a hint."""
    own = list(schema["properties"]) if pointer else parameters(model, endpoint)
    elsewhere = paths_with(model, name)
    candidates = own if pointer else [*own, *other_keys]
    meant = next((word for word, others in OTHER_WORDS.items() if name.lower() in others and word in candidates), "")
    sibling = model.replace("text-to-video", "image-to-video")
    if not pointer and elsewhere:
        hint = f"only the {register.style_of(elsewhere[0])} endpoint takes it"
    elif not pointer and sibling != model and sibling in register.models() and paths_with(sibling, name):
        hint = f"{sibling} does"
    else:
        hint = did_you_mean(meant, name) if meant else nearest_hint(name, candidates) or f"known: {listed(own)}"
    owner = f"`{dotted(split(pointer))}`" if pointer else f"`{model}`"
    return Violation(join(pointer, name), f"{owner} does not take `{name[:100]}`", hint, unknown=True)


def paths_with(model: str, name: str) -> list[str]:
    """The paths of a model on which it takes a parameter."""
    return [path for path in register.endpoints(model) if name in register.schema(model, path)["properties"]]


def distance(errors: Sequence[ValidationError], depth: int) -> tuple[bool, bool, int]:
    """How far a value is from an alternative of a schema, by its errors there.

    Farthest is a value of another JSON type, then one with another member `type`; else the number of errors counts.
    """
    other_type = any(keyword_of(error) == "Type" and len(error.instance_path) == depth for error in errors)
    return other_type, any(error.instance_path[-1:] == ["type"] for error in errors), len(errors)


def schema_of(model: str, endpoint: str, path: Sequence[str | int]) -> Mapping[str, Any]:
    """The schema that holds the keyword at the end of `path`."""
    schema: Any = register.schema(model, endpoint)
    for part in path[:-1]:
        schema = schema[part]
    return schema if isinstance(schema, dict) else {}


def dotted(path: Sequence[str | int]) -> str:
    """A path as messages show it: "camera_control.config.zoom", "masks[0].mask"."""
    return "".join(f"[{part}]" if str(part).isdigit() else f".{part}" for part in path).removeprefix(".")


def size_text(schema: Mapping[str, Any], unit: str) -> str:
    """The bounds of a length, by the keywords minLength and maxLength, or minItems and maxItems."""
    minimum, maximum = schema.get(f"min{unit}"), schema.get(f"max{unit}")
    if minimum is not None and maximum is not None:
        return f"{minimum} to {maximum}"
    return f"at most {maximum}" if minimum is None else f"at least {minimum}"
