"""A model of the catalogue in words and in JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from batchgen.catalogue import endpoint as usual
from batchgen.catalogue import endpoints, kinds, known, parameters, schema, style_of

Schema = Mapping[str, Any]

TYPES = {"string": "text", "integer": "whole number", "array": "list", "object": "mapping", "boolean": "true or false"}
SHOWN = 16  # values of a list that are spelt out


def told(model: str, pricing: Mapping[str, Any] | None, listed_at: datetime | None) -> Iterator[str]:
    """The lines that describe a model: where it is served, what it costs, what it takes."""
    first = usual(model)
    served = [first, *(path for path in endpoints(model) if path != first)]
    yield model
    yield f"  {', '.join(kinds(model))}"
    for endpoint in served:
        yield f"  {style_of(endpoint):<10} {endpoint}"
    yield f"  {'price':<10} {price(pricing)}{f' (as listed {listed_at.astimezone():%Y-%m-%d})' if listed_at else ''}"
    for number, endpoint in enumerate(served):
        known = set(parameters(model, first)) if number else set()
        names = [name for name in parameters(model, endpoint) if name not in known]
        if names:
            yield f"on {style_of(endpoint)}, also:" if number else "parameters (* required):"
        body = schema(model, endpoint)
        width = max((len(name) for name in names), default=0) + 2
        for name in names:
            star = " *" if name in body["required"] else ""
            yield f"  {name + star:<{width}}  {described(body['properties'][name])}"


def described(parameter: Schema) -> str:
    """What a parameter may be, in a few words."""
    parts = [allowed(parameter)]
    if "default" in parameter:
        default = parameter["default"]
        parts.append(f"default {str(default).lower() if isinstance(default, bool) else default}")
    return "; ".join(filter(None, parts))


def allowed(parameter: Schema) -> str:
    if branches := parameter.get("anyOf") or parameter.get("oneOf"):
        return " or ".join(dict.fromkeys(allowed(branch) for branch in branches))
    if "const" in parameter:
        return str(parameter["const"])
    if values := parameter.get("enum"):
        more = f", … ({len(values)} in all)" if len(values) > SHOWN else ""
        return ", ".join(str(value) for value in values[:SHOWN]) + more
    if "x-media" in parameter:
        return f"{parameter['x-media']}: a link{' or a local file' if parameter['x-media'] == 'image' else ''}"
    kind = str(parameter.get("type", "anything"))
    if kind == "array":
        return f"list{bounds(parameter, 'Items')} of: {allowed(parameter.get('items', {}))}"
    if kind == "object" and parameter.get("properties"):
        return f"mapping of {', '.join(parameter['properties'])}"
    if kind == "string":
        return f"text{bounds(parameter, 'Length', ' characters')}"
    return TYPES.get(kind, kind) + span(parameter)


def bounds(parameter: Schema, of: str, unit: str = "") -> str:
    """The least and the most of a length."""
    least, most = parameter.get(f"min{of}"), parameter.get(f"max{of}")
    if most is not None:
        return f", {f'{least} to {most}' if least else f'at most {most}'}{unit}"
    return f", at least {least}{unit}" if least else ""


def span(parameter: Schema) -> str:
    """The range of a number."""
    ends = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}
    told = [f"{word} {parameter[name]}" for name, word in ends.items() if name in parameter]
    return f", {' '.join(told)}" if told else ""


def price(pricing: Mapping[str, Any] | None) -> str:
    """A price list's entry as it reads; its amounts are shown as they are written."""
    try:
        match (pricing or {}).get("kind"):
            case "fixed":
                return " + ".join(amount(unit, unit["name"]) for unit in (pricing or {})["units"])
            case "variants":
                return ", ".join(
                    f"{amount(each, each['unit'])} ({', '.join(f'{name} {is_}' for name, is_ in each['when'].items())})"
                    for each in (pricing or {})["variants"]
                )
            case "variable":
                return "varies: the service quotes none"
    except (KeyError, TypeError, AttributeError):
        return "of an unknown kind"
    return "unknown"


def amount(priced: Mapping[str, Any], unit: str) -> str:
    return f"${priced['price']} for {'' if str(priced['per']) == '1' else str(priced['per']) + ' × '}{unit}"


def model_json(model: str, pricing: Mapping[str, Any] | None, *, whole: bool) -> dict[str, Any]:
    """A model for programs; `whole`: with the schema of each endpoint's body. A newer model has a price only."""
    if not known(model):
        return {"model": model, "types": [], "endpoints": [], "pricing": pricing, "parameters": []}
    shown: dict[str, Any] = {"model": model, "types": kinds(model), "endpoints": endpoints(model), "pricing": pricing}
    if whole:
        return {**shown, "schemas": {endpoint: schema(model, endpoint) for endpoint in endpoints(model)}}
    return {**shown, "parameters": parameters(model, usual(model))}
