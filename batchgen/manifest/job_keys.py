"""The keys of a job that batchgen itself reads. Every other key of a job is a parameter of its model.

Each key is one entry of `JOB_KEYS`; the schema for editors is made from it. `job_builder` and `expansion` read the
values, because templates must be filled in first.
"""

import re
from typing import Any

from batchgen import catalogue
from batchgen.manifest.names import NAME_SCHEMA

Schema = dict[str, Any]

MOST_JOBS = 1_000_000
"""Jobs of one manifest, which all fit into memory."""
MOST_TAKES = 1_000
"""More takes of one job are more likely a slip of the finger than a wish."""
HIGHEST_PRIORITY = 1_000_000
"""Priorities fit into an INTEGER column of every database."""
NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
"""A name that a template can use. Columns with other names are ignored."""

OUTPUT_NAMES = "Names: batch, id, model, index, take, columns, matrix keys, and the job's parameters."
OUTPUT_HELP = f"Where the video goes, relative to the manifest. {OUTPUT_NAMES}"
TEMPLATE: Schema = {"type": "string", "pattern": r"\{\{"}
TEMPLATE_OR_NULL: Schema = {"$ref": "#/definitions/template_or_null"}

JOB_KEYS: dict[str, Schema] = {
    "id": {**NAME_SCHEMA, "description": "The job's name in every run; a template where the entry makes many jobs."},
    "model": {
        "description": "The model's name; `batchgen models` lists them.",
        "anyOf": [{"enum": list(catalogue.models())}, TEMPLATE],
    },
    "output": {"description": OUTPUT_HELP, "type": ["string", "null"]},
    "priority": {
        "description": "Jobs with a higher priority are sent first.",
        "default": 0,
        "anyOf": [
            {"type": "integer", "minimum": -HIGHEST_PRIORITY, "maximum": HIGHEST_PRIORITY},
            TEMPLATE_OR_NULL,
        ],
    },
    "tags": {"description": "Your own words for this job.", "type": ["array", "null"], "items": NAME_SCHEMA},
    "matrix": {
        "description": "One job for each combination of the values of these names.",
        "type": "object",
        "minProperties": 1,
        "propertyNames": {"pattern": f"^{NAME.pattern}$"},
        "additionalProperties": {
            "anyOf": [
                {"type": "array", "minItems": 1},
                {
                    "type": "object",
                    "required": ["glob"],
                    "additionalProperties": False,
                    "properties": {
                        "glob": {"type": "string", "description": "Files beside the manifest: frames/**/*.png."}
                    },
                },
            ]
        },
    },
    "rows": {
        "description": "One job for each row of this file; its columns are names.",
        "type": "string",
        "pattern": r"\.([cC][sS][vV]|[jJ][sS][oO][nN][lL])$",
    },
    "count": {
        "description": "The number of takes of the job; {{ take }} is 1, 2, …",
        "type": ["integer", "null"],
        "minimum": 1,
        "maximum": MOST_TAKES,
    },
}
MULTIPLIERS = ("matrix", "rows", "count")
"""Keys that make many jobs from one entry."""
NO_DEFAULTS = ("id", "matrix", "rows")
"""Keys that cannot stand in `defaults`."""
