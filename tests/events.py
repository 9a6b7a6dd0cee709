"""Every line that a command writes with `--json`, held against the schema that `batchgen schema --events` prints."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import jsonschema_rs
import pytest

from batchgen.report.event_schema import schema

# Made as the module is imported: making it parses our sources, which CPython 3.11 cannot do in two threads at once.
SCHEMA = schema()
VALIDATOR = jsonschema_rs.validator_for(SCHEMA, validate_formats=True)


@cache
def fields_of(event: object) -> frozenset[str]:
    """The fields that the schema names for an event."""
    for definition in SCHEMA["$defs"].values():
        properties = definition.get("properties", {})
        if properties.get("event", {}).get("const") == event:
            return frozenset(properties)
    return pytest.fail(f"no type for `{event}`: `report/command_events.py`")


def check_events(output: str) -> list[dict[str, Any]]:
    """The JSON lines of a command's output. Each must be an event, as the schema says."""
    lines = [json.loads(line) for line in output.splitlines()]
    for line in lines:
        fields = fields_of(line.get("event"))  # first: the schema would only say that the line is none of all types
        VALIDATOR.validate(line)
        assert set(line) <= fields, line["event"]
    return lines
