"""The JSON Schema of the lines that commands write with `--json`, made from their types."""

from __future__ import annotations

from typing import Any, get_args

from batchgen.report.events import Event


def schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a line: times are ISO 8601 text, and amounts are text, because they are exact."""
    from pydantic import TypeAdapter
    from pydantic.json_schema import GenerateJsonSchema

    for name in get_args(Event):
        name.__pydantic_config__ = {"use_attribute_docstrings": True}
    document = TypeAdapter(Event).json_schema(mode="serialization")
    title = "A line that batchgen writes with --json"
    return {"$schema": GenerateJsonSchema.schema_dialect, "title": title, **document}
