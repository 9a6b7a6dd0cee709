"""The rule for names: of batches, jobs and tags."""

from typing import Any

from batchgen.catalogue.wording import quoted
from batchgen.manifest.diagnostics import Diagnostics
from batchgen.manifest.nodes import Node

LONGEST_NAME = 200
"""Characters of a batch's name, a job's id or a tag: file names are made of them, and file systems take 255 bytes."""
NAME_SCHEMA: dict[str, Any] = {"title": "text", "type": ["string", "number", "boolean"], "maxLength": LONGEST_NAME}
"""A name without quotes may look like a number in YAML, such as 007; the reader takes its text."""


def read_name(node: Node, subject: str, diagnostics: Diagnostics) -> str | None:
    """The text of a name. Anything else is reported as `subject`, and gives None."""
    if type(node.value) is dict or type(node.value) is list:
        diagnostics.add(node, f"{subject} must be text, not {quoted(node.value)}")
    elif fault := name_fault("" if node.value is None else node.text):
        diagnostics.add(node, f"{subject} {fault}")
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
