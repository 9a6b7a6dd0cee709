"""A model of the catalogue as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from batchgen.catalogue import links, register, rules, validation

if TYPE_CHECKING:
    from batchgen.report.command_events import Model

Schema = Mapping[str, Any]

TYPES = {"string": "text", "integer": "whole number", "array": "list", "object": "mapping", "boolean": "true or false"}
RETIRED = " (the service no longer supports this model)"
VALUES_SHOWN = 16  # of an enum: a few lines on a terminal


def model_lines(model: str, pricing: Mapping[str, Any] | None, listed_at: datetime | None) -> Iterator[str]:
    """The lines that describe a model: its endpoints, its price, its parameters."""
    default = register.endpoint(model)
    others = [endpoint for endpoint in register.endpoints(model) if endpoint != default]
    yield model
    yield f"  {', '.join(links.kinds(model))}{RETIRED if rules.is_retired(model) else ''}{learned_note(model)}"
    for endpoint in (default, *others):
        yield f"  {register.style_of(endpoint):<10} {endpoint}"
    listed = f" (as listed {listed_at.astimezone():%Y-%m-%d})" if listed_at else ""
    yield f"  {'price':<10} {price(pricing)}{listed}"
    parameters = validation.parameters(model, default)
    yield "parameters (* required):"
    yield from parameter_lines(register.schema(model, default), parameters)
    for endpoint in others:
        if more := [name for name in validation.parameters(model, endpoint) if name not in parameters]:
            yield f"on {register.style_of(endpoint)}, also:"
            yield from parameter_lines(register.schema(model, endpoint), more)
    for condition in rules.conditions(register.canonical(model)):
        yield f"the model {condition.message}"


def learned_note(model: str) -> str:
    """That a model's parameters are those of its live document, with the date; empty for a model of the catalogue."""
    documented_at = register.learned_at(model)
    return f" (by its live document of {documented_at:%Y-%m-%d})" if documented_at else ""


def parameter_lines(body: Schema, names: Sequence[str]) -> Iterator[str]:
    width = max((len(name) for name in names), default=0) + 2
    for name in names:
        star = " *" if name in body["required"] else ""
        yield f"  {name + star:<{width}}  {describe(body['properties'][name])}"


def describe(parameter: Schema) -> str:
    """The values that a parameter takes, and its default."""
    values = allowed_values(parameter)
    if "default" not in parameter:
        return values
    default = parameter["default"]
    return f"{values}; default {str(default).lower() if isinstance(default, bool) else default}"


def allowed_values(parameter: Schema) -> str:
    if branches := parameter.get("anyOf") or parameter.get("oneOf"):
        return " or ".join(dict.fromkeys(allowed_values(branch) for branch in branches))
    if "const" in parameter:
        return str(parameter["const"])
    if values := parameter.get("enum"):
        more = f", … ({len(values)} in all)" if len(values) > VALUES_SHOWN else ""
        return ", ".join(str(value) for value in values[:VALUES_SHOWN]) + more
    if media := parameter.get("x-media"):
        return f"{media}: a link or a local file"
    kind = str(parameter.get("type", "anything"))
    if kind == "array":
        return f"list{length_bounds(parameter, 'Items')} of: {allowed_values(parameter.get('items', {}))}"
    if kind == "object" and parameter.get("properties"):
        return f"mapping of {', '.join(parameter['properties'])}"
    if kind == "string":
        return f"text{length_bounds(parameter, 'Length', ' characters')}"
    return TYPES.get(kind, kind) + number_bounds(parameter)


def length_bounds(parameter: Schema, keyword: str, unit: str = "") -> str:
    """The bounds that minLength and maxLength, or minItems and maxItems, set."""
    least, most = parameter.get(f"min{keyword}"), parameter.get(f"max{keyword}")
    if most is not None:
        return f", {f'{least} to {most}' if least else f'at most {most}'}{unit}"
    return f", at least {least}{unit}" if least else ""


def number_bounds(parameter: Schema) -> str:
    keywords = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}
    bounds = [f"{word} {parameter[keyword]}" for keyword, word in keywords.items() if keyword in parameter]
    return f", {' '.join(bounds)}" if bounds else ""


def price(pricing: Mapping[str, Any] | None) -> str:
    """An entry of the price list (`catalogue/prices.py` documents its shapes); amounts as the service writes them."""
    pricing = pricing or {}
    try:
        match pricing.get("kind"):
            case "fixed":
                return " + ".join(amount(unit, unit["name"]) for unit in pricing["units"])
            case "variants":
                return ", ".join(variant_price(variant) for variant in pricing["variants"])
            case "variable":
                return "varies: the service quotes none"
    except (KeyError, TypeError, AttributeError):
        return "not in a known format"
    return "unknown"


def variant_price(variant: Mapping[str, Any]) -> str:
    conditions = ", ".join(f"{name} {value}" for name, value in variant["when"].items())
    return f"{amount(variant, variant['unit'])} ({conditions})"


def amount(entry: Mapping[str, Any], unit: str) -> str:
    number = "" if str(entry["per"]) == "1" else f"{entry['per']} × "
    return f"${entry['price']} for {number}{unit}"


def model_json(model: str, pricing: Mapping[str, Any] | None, *, with_schemas: bool) -> Model:
    """A model for programs. A model that is newer than the catalogue has nothing but a price."""
    listed = dict(pricing) if pricing is not None else None
    if not register.is_known(model):
        return {"event": "model", "model": model, "types": [], "endpoints": [], "pricing": listed, "parameters": []}
    endpoints = list(register.endpoints(model))
    document: Model = {
        "event": "model",
        "model": model,
        "types": list(links.kinds(model)),
        "retired": rules.is_retired(model),
        "endpoints": endpoints,
        "pricing": listed,
    }
    if with_schemas:
        document["schemas"] = {endpoint: register.schema(model, endpoint) for endpoint in endpoints}
    else:
        document["parameters"] = list(validation.parameters(model, register.endpoint(model)))
    return document
