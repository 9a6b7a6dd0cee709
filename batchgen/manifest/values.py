"""Single values of a manifest: the rule for names, and what messages call a value."""

from __future__ import annotations

from typing import Any

from batchgen.manifest.diagnostics import Diagnostics
from batchgen.manifest.nodes import Node

LONGEST_NAME = 200
"""Characters of a batch's name, a job's id or a tag: file names are made of them, and file systems take 255 bytes."""
NAME_SCHEMA: dict[str, Any] = {"title": "text", "type": ["string", "number", "boolean"], "maxLength": LONGEST_NAME}
"""A name without quotes may look like a number in YAML, such as 007; the reader takes its text."""


def read_name(node: Node, what: str, diagnostics: Diagnostics) -> str | None:
    """The text of a name. Anything else is reported as `what`, and gives None."""
    if type(node.value) is dict or type(node.value) is list:
        diagnostics.add(node, f"{what} must be text, not {kind_of(node)}")
    elif fault := name_fault("" if node.value is None else node.text):
        diagnostics.add(node, f"{what} {fault}")
    else:
        return node.text
    return None


def name_fault(text: str) -> str | None:
    """Why `text` cannot be a name, or None."""
    if not text.strip():
        return "is empty"
    if not text.isprintable() or text != text.strip():
        return "holds characters that cannot be printed, or spaces around it"
    if len(text) > LONGEST_NAME:
        return f"has {len(text)} characters; at most {LONGEST_NAME} are allowed"
    return None


def kind_of(node: Node) -> str:
    """What messages call a value."""
    match node.value:
        case None:
            return "empty"
        case bool():
            return f"the truth value {node.text}"
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case str():
            return "text" if node.value.strip() else "empty"
    return f"the number {node.text}"
