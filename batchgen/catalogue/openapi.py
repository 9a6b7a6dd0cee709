"""Makes the JSON Schema of a model's request from the OpenAPI 3.0 document of the service.

The output differs from the source in these points:
- Every object with named properties is closed: the service ignores a misspelt parameter silently, and charges for the
  video all the same.
- Media have no `format: uri`: they may be local files until the request is sent.
- A default that is text for a number ("5") becomes the number.
- `x-media` (image, video or audio) marks the values that are links or files.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from jsonschema_rs import Draft202012Validator

from batchgen.catalogue.links import medium

Schema = dict[str, Any]

ODD_DOCUMENT = (LookupError, TypeError, ValueError, AttributeError, RecursionError)
"""What a document of another form raises."""
SCHEMA_CHARS = 200_000
"""The JSON of one model's schemas: the largest documented one has 8,000 characters."""
DEPTH_MAX = 20
"""Levels of its values: the deepest documented one has 12."""
PATH = re.compile(r"/[A-Za-z0-9/_.-]{1,200}")
KEYWORDS = {
    *("type", "enum", "const", "default", "deprecated", "format", "nullable", "properties", "required", "items"),
    *("anyOf", "oneOf", "allOf", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    *("minLength", "maxLength", "minItems", "maxItems"),
}
"""The keywords that are taken over. Others describe, or could make a check slow (`pattern`) or fetch files (`$ref`)."""


def request_schemas(document: Mapping[str, Any], model: str) -> dict[str, Schema]:
    """Path → JSON Schema of the request body of `model`, for each path of an OpenAPI document that creates its videos.

    Raises one of `ODD_DOCUMENT`.
    """
    requests = {
        path: methods["post"]["requestBody"]["content"]["application/json"]["schema"]
        for path, methods in document["paths"].items()
        if "post" in methods
    }
    return usable_schemas(
        {path: body for path, body in requests.items() if model in body["properties"]["model"].get("enum", [model])},
        model,
    )


def usable_schemas(schemas: Mapping[str, Schema], model: str) -> dict[str, Schema]:
    """Schemas by path, from a document or from a job table, with nothing in them but what a check needs.

    Raises one of `ODD_DOCUMENT` where they are too large or not of the expected form.
    """
    if not schemas or depth_of(schemas) > DEPTH_MAX or len(json.dumps(schemas)) > SCHEMA_CHARS:
        raise ValueError("there is no schema, or one that is too large")
    converted = {path: convert(schema) for path, schema in schemas.items()}
    for path, schema in converted.items():
        if not PATH.fullmatch(path):
            raise ValueError("the path is none of this service")
        schema["properties"]["model"] = {"const": model}
        schema["required"] = [str(name) for name in schema.get("required", ["model"])]
        Draft202012Validator(schema)
    return converted


def depth_of(value: Any) -> int:
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(depth_of, children), default=0)


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
            case ("required", bool()) | ("nullable", _):
                pass  # `required` of draft 3, which the object's own list repeats; `nullable` is read at the end.
            case "items", items:
                converted[key] = convert(items, name)
            case "anyOf" | "oneOf" | "allOf", branches:
                converted[key] = [convert(branch, name) for branch in branches]
            case "exclusiveMinimum" | "exclusiveMaximum", bool(exclusive):
                if exclusive:
                    converted[key] = schema[key.removeprefix("exclusive").lower()]
            case "minimum" | "maximum", bound:
                if schema.get(f"exclusive{key.capitalize()}") is not True:
                    converted[key] = bound
            case "default", default:
                is_number = isinstance(default, str) and schema.get("type") in ("integer", "number")
                converted[key] = json.loads(default) if is_number else default
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
