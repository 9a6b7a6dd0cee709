"""Make `models.json` from the request schemas that the service publishes: `python -m batchgen.catalogue.build SOURCE`.

SOURCE maps each model to the paths it is served on, and each path to the OpenAPI 3.0 schema of its request body. The
output is the same data as JSON Schema 2020-12, one model a line, the same bytes for the same source.

What is made stricter or looser than the source, and why:
- every object with named properties is closed: a misspelt parameter is silently ignored by the service, and the video
  is paid for all the same;
- `format: uri` goes from images, which may be local files until the request is sent;
- a default that is written as text for a number ("5") becomes the number;
- `x-media` (image, video or audio) marks the values that are links or files.
"""

from __future__ import annotations

import argparse
import copy
import json
from pathlib import Path
from typing import Any

from batchgen.catalogue.links import medium

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
    """An OpenAPI 3.0 schema as JSON Schema 2020-12. `kind` is the `type` that stands beside a bare `url`."""
    if set(schema) == {"nullable"}:
        return {"type": "null"}
    made: Schema = {}
    for key in sorted(set(schema) - {"nullable", "discriminator", "example", "xml"}):
        match key, schema[key]:
            case "properties", properties:
                sort = sole(properties.get("type", {}))
                made[key] = {child: convert(properties[child], child, sort) for child in sorted(properties)}
                made["additionalProperties"] = False
            case "required", bool():
                pass  # A word of an older dialect; the object's own list says the same.
            case "items", items:
                made[key] = convert(items, name)
            case "anyOf" | "oneOf" | "allOf", branches:
                made[key] = [convert(branch, name) for branch in branches]
            case "exclusiveMinimum" | "exclusiveMaximum", bool(exclusive):
                if exclusive:
                    made[key] = schema["m" + key.removeprefix("exclusiveM")]
            case "minimum" | "maximum", bound:
                if schema.get("exclusiveM" + key[1:]) is not True:
                    made[key] = bound
            case "default", default:
                made[key] = number(default) if schema.get("type") in ("integer", "number") else default
            case _, value:
                made[key] = value
    media = medium(name, kind)
    if media and made.get("type") == "string":
        made["x-media"] = media
        if media == "image":
            made.pop("format", None)
    return {"anyOf": [made, {"type": "null"}]} if schema.get("nullable") else made


def sole(schema: Schema) -> str | None:
    """The one value a schema allows, if it is text and there is only one."""
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
    made = {}
    for model in sorted(source):
        made[model] = {path: convert(source[model][path]) for path in sorted(source[model])}
        for schema in made[model].values():
            # Some pages share one list of names between models.
            schema["properties"]["model"] = {"const": model}
    return made


def text(catalogue: dict[str, dict[str, Schema]]) -> str:
    lines = (
        f"{json.dumps(model)}:{json.dumps(paths, separators=(',', ':'), ensure_ascii=False)}"
        for model, paths in catalogue.items()
    )
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("source", type=Path, help="JSON file: model → path → OpenAPI 3.0 schema of the request body")
    arguments.add_argument("--to", type=Path, default=Path(__file__).with_name("models.json"))
    chosen = arguments.parse_args()
    chosen.to.write_text(text(build(json.loads(chosen.source.read_text("utf-8")))), "utf-8")


if __name__ == "__main__":
    main()
