"""The JSON Schema of the lines that commands write with `--json`, made from their types.

A line is a type of `run_events.py` or `command_events.py` with an `event`. Names and meanings stay; lines may gain
fields. The rows of `sql` and the records of `export` are no events.
"""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import Any

from typing_extensions import get_original_bases, is_typeddict

from batchgen.report import command_events, run_events


def schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a line: times are ISO 8601 text, and amounts are text, because they are exact."""
    from pydantic import TypeAdapter
    from pydantic.json_schema import GenerateJsonSchema

    records = [kind for module in (run_events, command_events) for kind in filter(is_typeddict, vars(module).values())]
    for kind in records:
        kind.__pydantic_config__ = {"use_attribute_docstrings": True}
    any_line: Any = reduce(or_, [kind for kind in records if "event" in kind.__annotations__])
    document = TypeAdapter(any_line).json_schema(mode="serialization")
    for kind in records:
        fields = document["$defs"].get(kind.__name__, {}).get("properties", {})
        for name, text in meanings(kind).items() if fields else ():
            fields[name].setdefault("description", text)
    title = "A line that batchgen writes with --json"
    return {"$schema": GenerateJsonSchema.schema_dialect, "title": title, **document}


def meanings(kind: Any) -> dict[str, str]:
    """What the fields of a type mean, also those that it has from others, whose docstrings pydantic does not read."""
    from pydantic import TypeAdapter

    fields = TypeAdapter(kind).json_schema(mode="serialization").get("properties", {})
    inherited = [meanings(base) for base in get_original_bases(kind) if is_typeddict(base)]
    own = {name: field["description"] for name, field in fields.items() if "description" in field}
    return reduce(or_, [*inherited, own])
