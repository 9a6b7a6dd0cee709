"""Makes the JSON Schema of a model's request from the OpenAPI 3.0 document of the service.

The output differs from the source in these points:
- Every object with named properties is closed: the service ignores a misspelt parameter silently, and charges for the
  video all the same.
- Media have no `format: uri`: they may be local files until the request is sent.
- A default that is text for a number ("5") becomes the number.
- `x-media` (image, video or audio) marks the values that are links or files.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from batchgen.catalogue.links import medium

Schema = dict[str, Any]

KEYWORDS = {
    *("type", "enum", "const", "default", "deprecated", "format", "nullable", "properties", "required", "items"),
    *("anyOf", "oneOf", "allOf", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    *("minLength", "maxLength", "minItems", "maxItems"),
}
"""The keywords that are taken over. Others describe, or could make a check slow (`pattern`) or fetch files (`$ref`)."""


def request_schemas(document: Mapping[str, Any], model: str) -> dict[str, Schema]:
    """Path → JSON Schema of the request body of `model`, for each path of an OpenAPI document that creates its videos.

    Raises LookupError, TypeError, ValueError or AttributeError where the document is not of the expected form.
    """
    schemas = dict(_requests(document, model))
    for schema in schemas.values():
        schema["properties"]["model"] = {"const": model}
        schema.setdefault("required", ["model"])
    return schemas


def _requests(document: Mapping[str, Any], model: str) -> Iterator[tuple[str, Schema]]:
    for path, methods in document["paths"].items():
        if "post" in methods:
            schema = methods["post"]["requestBody"]["content"]["application/json"]["schema"]
            if model in schema["properties"]["model"].get("enum", [model]):
                yield str(path), convert(schema)


def convert(schema: Schema, name: str = "", kind: str | None = None) -> Schema:
    """An OpenAPI 3.0 schema as JSON Schema 2020-12. `kind` is the value of a `type` beside this schema's parameter."""
    if set(schema) == {"nullable"}:
        return {"type": "null"}
    converted: Schema = {}
    for key in sorted(schema.keys() & KEYWORDS):
        match key, schema[key]:
            case "properties", properties:
                child_kind = sole(properties.get("type", {}))
                converted[key] = {child: convert(properties[child], child, child_kind) for child in sorted(properties)}
                converted["additionalProperties"] = False
            case "required", bool():
                pass  # A keyword of JSON Schema draft 3; the object's own list says the same.
            case "items", items:
                converted[key] = convert(items, name)
            case "anyOf" | "oneOf" | "allOf", branches:
                converted[key] = [convert(branch, name) for branch in branches]
            case "exclusiveMinimum" | "exclusiveMaximum", bool(exclusive):
                if exclusive:
                    converted[key] = schema["m" + key.removeprefix("exclusiveM")]
            case "minimum" | "maximum", bound:
                if schema.get("exclusiveM" + key[1:]) is not True:
                    converted[key] = bound
            case "default", default:
                converted[key] = number(default) if schema.get("type") in ("integer", "number") else default
            case "nullable", _:
                pass  # below
            case _, value:
                converted[key] = value
    media = medium(name, kind)
    if media and converted.get("type") == "string":
        converted["x-media"] = media
        converted.pop("format", None)
    return {"anyOf": [converted, {"type": "null"}]} if schema.get("nullable") else converted


def sole(schema: Schema) -> str | None:
    """The only value that a schema allows, if there is one and it is text."""
    allowed = schema.get("enum", [])
    return allowed[0] if len(allowed) == 1 and isinstance(allowed[0], str) else None


def number(default: Any) -> Any:
    return json.loads(default) if isinstance(default, str) else default
