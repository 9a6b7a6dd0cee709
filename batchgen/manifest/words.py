"""Reading single values out of nodes, and the words for what is wrong with them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from difflib import get_close_matches

from batchgen.manifest.nodes import Node
from batchgen.manifest.source import Findings

LONGEST_NAME = 200
"""Characters of a batch's name, a job's id or a tag."""


def name(node: Node, what: str, findings: Findings) -> str | None:
    """A name in one line; a number is taken as it is written ("007"). None, and a finding, for anything else."""
    if type(node.value) is dict or type(node.value) is list:
        findings.add(node, f"{what} must be text, not {kind(node)}")
    elif why := name_fault("" if node.value is None else node.text):
        findings.add(node, f"{what} {why}")
    else:
        return node.text
    return None


def name_fault(text: str) -> str | None:
    """Why `text` is no name in one line, or None."""
    if not text.strip():
        return "is empty"
    if not text.isprintable() or text != text.strip():
        return "holds characters that cannot be printed, or spaces around it"
    if len(text) > LONGEST_NAME:
        return f"has {len(text)} characters; at most {LONGEST_NAME} are allowed"
    return None


def kind(node: Node) -> str:
    """What a value is, for a person."""
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
            return "text"
    return f"the number {node.text}"


def nearest(word: str, known: Collection[str]) -> str:
    """A label for a word that is not known: the most similar one that is, else all of them."""
    close = get_close_matches(word[:100], known, n=1)
    return f"did you mean {close[0]}?" if close else f"known: {listed(list(known))}"


def listed(words: Sequence[str], conjunction: str = "and") -> str:
    """`words` as a person would list them."""
    return f" {conjunction} ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))
