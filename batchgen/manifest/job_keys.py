"""The keys of a job that batchgen itself reads, and the rule for names. Every other key is a parameter of the model.

Each is one entry of `JOB_KEYS`, for the schema of editors too. `job_builder` and `expansion` read the values.
"""

import re
from typing import Any

from batchgen.catalogue import register
from batchgen.catalogue.wording import quoted
from batchgen.services.text import character_fault

Schema = dict[str, Any]

MOST_JOBS = 1_000_000
"""Jobs of one manifest, which all fit into memory."""
MOST_TAKES = 1_000
"""More takes of one job are more likely a slip of the finger than a wish."""
LAST_TAKE = 1_000_000
"""The highest number of a take: beyond any that is made by `count` and new takes of it."""
HIGHEST_PRIORITY = 1_000_000
"""Priorities fit into an INTEGER column of every database."""
NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
"""A name that a template can use. Columns with other names are ignored."""

LONGEST_NAME = 200
"""Characters of a batch's name, a job's id or a tag. `path_fault` bounds the bytes of the file names made of them."""
NAME_SCHEMA: dict[str, Any] = {"title": "text", "type": ["string", "number", "boolean"], "maxLength": LONGEST_NAME}
"""A name without quotes may look like a number in YAML, such as 007; the reader takes its text."""

OUTPUT_HELP = (
    "Where the video goes, relative to the manifest; or a URL of an object store: s3://bucket/{{ batch }}/{{ id }}.mp4,"
    " gs://, az:// or file://. Names: batch, id, model, index, take, columns, matrix keys, and the job's parameters."
)
TEMPLATE: Schema = {"type": "string", "pattern": r"\{\{"}

JOB_KEYS: dict[str, Schema] = {
    "id": {**NAME_SCHEMA, "description": "The job's name in every run; a template where the entry makes many jobs."},
    "model": {
        "description": "The model's name; `batchgen models` lists them.",
        "anyOf": [{"enum": list(register.models())}, TEMPLATE],
    },
    "output": {"description": OUTPUT_HELP, "type": ["string", "null"]},
    "priority": {
        "description": "Jobs with a higher priority are sent first.",
        "default": 0,
        "anyOf": [
            {"type": "integer", "minimum": -HIGHEST_PRIORITY, "maximum": HIGHEST_PRIORITY},
            {"$ref": "#/definitions/template_or_null"},
        ],
    },
    "tags": {"description": "Your own words for this job.", "type": ["array", "null"], "items": NAME_SCHEMA},
    "take": {
        "description": "Which take of the same request this is: another number is another video.",
        "type": ["integer", "null"],
        "minimum": 1,
        "maximum": LAST_TAKE,
    },
    "from": {
        "description": "The job that this one was made from, as `batchgen next` writes it.",
        "type": ["object", "null"],
        "required": ["batch", "id"],
        "additionalProperties": False,
        "properties": {"batch": NAME_SCHEMA, "id": NAME_SCHEMA},
    },
    "extra": {
        "description": "Parameters that are sent as they are, though the catalogue does not have them.",
        "type": ["object", "null"],
    },
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
        "pattern": r"\.([cCtT][sS][vV]|[tT][xX][tT]|[jJ][sS][oO][nN][lL]|[nN][dD][jJ][sS][oO][nN])$",
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
NO_DEFAULTS = ("id", "take", "from", "matrix", "rows")
"""Keys that cannot stand in `defaults`."""


def name_fault(text: str) -> str | None:
    """Why `text` cannot be a name, or None."""
    if not text.strip():
        return "is empty"
    if fault := character_fault(text):
        return f"{fault}; write another one"
    if text != text.strip():
        return "has blanks around it; write it without them"
    if len(text) > LONGEST_NAME:
        return f"has {len(text)} characters; at most {LONGEST_NAME} are allowed"
    return None


def number_fault(key: str, value: object, lowest: int, highest: int) -> str | None:
    """Why the value of a key is no whole number in its range, or None."""
    if type(value) is int and lowest <= value <= highest:
        return None
    return f"`{key}` must be a whole number from {lowest:,} to {highest:,}, not {quoted(value)}"
