"""Every line that a command writes with `--json`, held against the schema that `batchgen schema --events` prints."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import jsonschema_rs

from batchgen.report.event_schema import schema

# Made as the module is imported: making it parses our sources, which CPython 3.11 cannot do in two threads at once.
SCHEMA = schema()
VALIDATOR = jsonschema_rs.validator_for(SCHEMA, validate_formats=True)


@cache
def fields_of(event: str) -> frozenset[str]:
    """The fields that the schema names for an event."""
    definitions = SCHEMA["$defs"].values()
    return next(
        frozenset(definition["properties"])
        for definition in definitions
        if definition.get("properties", {}).get("event", {}).get("const") == event
    )


def check_events(output: str) -> list[dict[str, Any]]:
    """The JSON lines of a command's output. Each must be an event, as the schema says."""
    lines = [json.loads(line) for line in output.splitlines()]
    for line in lines:
        VALIDATOR.validate(line)
        assert set(line) <= fields_of(line["event"]), line["event"]
    return lines
