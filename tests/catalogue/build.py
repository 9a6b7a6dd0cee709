"""Make `batchgen/catalogue/models.json` from the service's request schemas: `python -m tests.catalogue.build SOURCE`.

SOURCE maps each model to its paths, and each path to the OpenAPI 3.0 schema of its request body. The output has the
same data as JSON Schema 2020-12, one model a line. The same source gives the same bytes.

The output differs from the source in these points:
- Every object with named properties is closed: the service ignores a misspelt parameter silently, and charges for the
  video all the same.
- Media have no `format: uri`: they may be local files until the request is sent.
- A default that is text for a number ("5") becomes the number.
- `x-media` (image, video or audio) marks the values that are links or files.
"""

from __future__ import annotations

import argparse
import copy
import json
from pathlib import Path
from typing import Any

from batchgen.catalogue.links import medium
from batchgen.catalogue.register import DATA

UNIVERSAL = "/v2/video/generations"
KLING = "/v2/generate/video/kling/generation"
STANDARD = "kling-video/v2.1/standard/image-to-video"
MASTER = "klingai/v2.1-master-image-to-video"

IMAGE = {"type": "string", "format": "uri"}
EXTRA_PARAMETERS: list[tuple[str, str, dict[str, Any]]] = [
    # The model's page documents these on the vendor path; its schema lists only some of them.
    (STANDARD, KLING, {"tail_image_url": IMAGE, "static_mask": IMAGE, "external_task_id": {"type": "string"}}),
]
EXTRA_PATHS: list[tuple[str, str, str]] = [
    # The model's page and its code example call the vendor path; the schema names only the universal one.
    (MASTER, KLING, UNIVERSAL),
]

Schema = dict[str, Any]


def convert(schema: Schema, name: str = "", kind: str | None = None) -> Schema:
    """An OpenAPI 3.0 schema as JSON Schema 2020-12. `kind` is the value of a `type` beside this schema's parameter."""
    if set(schema) == {"nullable"}:
        return {"type": "null"}
    converted: Schema = {}
    for key in sorted(set(schema) - {"nullable", "discriminator", "example", "xml"}):
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


def build(source: dict[str, dict[str, Schema]]) -> dict[str, dict[str, Schema]]:
    """The catalogue: model → path → JSON Schema of the request body."""
    source = copy.deepcopy(source)
    for model, path, like in EXTRA_PATHS:
        source[model].setdefault(path, copy.deepcopy(source[model][like]))
    for model, path, parameters in EXTRA_PARAMETERS:
        for name, schema in parameters.items():
            source[model][path]["properties"].setdefault(name, schema)
    catalogue = {}
    for model in sorted(source):
        catalogue[model] = {path: convert(source[model][path]) for path in sorted(source[model])}
        for schema in catalogue[model].values():
            # Some of the service's pages list the names of several models here.
            schema["properties"]["model"] = {"const": model}
    return catalogue


def text(catalogue: dict[str, dict[str, Schema]]) -> str:
    lines = (
        f"{json.dumps(model)}:{json.dumps(paths, separators=(',', ':'), ensure_ascii=False)}"
        for model, paths in catalogue.items()
    )
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("source", type=Path, help="JSON file: model → path → OpenAPI 3.0 schema of the request body")
    arguments.add_argument("--to", type=Path, default=DATA)
    options = arguments.parse_args()
    options.to.write_text(text(build(json.loads(options.source.read_text("utf-8")))), "utf-8")


if __name__ == "__main__":
    main()
