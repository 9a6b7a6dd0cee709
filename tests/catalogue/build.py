"""Make `batchgen/catalogue/models.json` from the service's request schemas: `python -m tests.catalogue.build SOURCE`.

SOURCE maps each model to its paths, and each path to the OpenAPI 3.0 schema of its request body. The output has the
same data as JSON Schema 2020-12, one model a line. The same source gives the same bytes.

`batchgen/catalogue/openapi.py` says in which points the output differs from the source.
"""

from __future__ import annotations

import argparse
import copy
import json
from pathlib import Path
from typing import Any

from batchgen.catalogue.openapi import convert
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
    arguments = argparse.ArgumentParser(
        prog="python -m tests.catalogue.build", description=(__doc__ or "").splitlines()[0]
    )
    arguments.add_argument("source", type=Path, help="JSON file: model → path → OpenAPI 3.0 schema of the request body")
    arguments.add_argument("--to", type=Path, default=DATA)
    options = arguments.parse_args()
    options.to.write_text(text(build(json.loads(options.source.read_text("utf-8")))), "utf-8")


if __name__ == "__main__":
    main()
