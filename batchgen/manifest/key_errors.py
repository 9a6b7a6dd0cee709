"""Judges the keys of the header by their JSON Schema, and explains each mistake at the YAML node that it is about."""

from collections.abc import Iterable, Iterator, Mapping
from types import NoneType
from typing import Any

from batchgen.catalogue.conversion import branches_of
from batchgen.catalogue.wording import TYPE_NAMES, allowed_range, listed, nearest_hint, quoted, suggestion
from batchgen.manifest.job_keys import Schema
from batchgen.manifest.nodes import Node
from batchgen.manifest.source import Marked

Mistake = tuple[Marked, str, str]
"""Where a key or its value is wrong, the message and the hint."""

TYPES: dict[str, tuple[type, ...]] = {
    "integer": (int,),
    "number": (int, float),
    "string": (str,),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "null": (NoneType,),
}
NO_LIMIT = frozenset({"none", "null", "no", "off", "never", "unlimited", "inf", "infinity"})
"""What people write to lift a limit."""


def mistakes(schema: Schema, name: str, node: Node, subject: str = "") -> Iterator[Mistake]:
    """What is wrong with the value of a key, or with the members of it; messages call it `subject`."""
    value, alternatives, subject = node.value, branches_of(schema), subject or f"`{name}`"
    kind = next((schema for schema in alternatives if is_of_kind(value, schema)), None)
    if kind is None:
        words = [str(word) for schema in alternatives for word in schema.get("enum", ())]
        hint = nearest_hint(node.text, words)
        if node.text.lower() in NO_LIMIT and any(schema.get("type") == "null" for schema in alternatives):
            hint = f"without {subject} there is none"
        yield node, f"{subject} must be {schema.get('title') or kinds(alternatives)}, not {quoted(value)}", hint
    elif "maximum" in kind and not kind["exclusiveMinimum"] < value <= kind["maximum"]:
        yield node, f"{subject} must be {allowed_range(kind)}, not {node.text[:60]}", ""
    elif "items" in kind:
        for item in value:
            yield from mistakes(kind["items"], name, item, f"an entry of `{name}`")
    elif properties := kind.get("properties"):
        for member, child in value.items():
            if member in properties:
                yield from mistakes(properties[member], member, child)
            else:
                yield node.keys[member], f"`{name}` has no key `{member[:100]}`", suggestion(member, properties)


def sound(schema: Schema, node: Node) -> dict[str, Node]:
    """The members of a mapping in which nothing is wrong."""
    properties = schema["properties"]
    return {
        name: child
        for name, child in node.value.items()
        if name in properties and not any(mistakes(properties[name], name, child))
    }


def is_of_kind(value: object, schema: Mapping[str, Any]) -> bool:
    """Whether a value has the type of a schema, and is one of its words, if it names them."""
    words = schema.get("enum") or ([schema["const"]] if "const" in schema else None)
    if words:
        return type(value) is str and value in words
    types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    is_blank = "pattern" in schema and isinstance(value, str) and not value.strip()
    return any(type(value) in TYPES[name] for name in types) and not is_blank


def kinds(alternatives: Iterable[Mapping[str, Any]]) -> str:
    """What a value may be, in words."""
    names: list[str] = []
    for schema in alternatives:
        if "enum" in schema or "const" in schema:
            names += schema.get("enum") or [schema["const"]]
        elif schema["type"] != "null":
            names.append(TYPE_NAMES[schema["type"]])
    return listed(list(dict.fromkeys(names)), "or")
