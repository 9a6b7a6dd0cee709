"""Warns of a comment that was meant as text: YAML takes the rest of `prompt: a red car #sunset` for a comment."""

from collections.abc import Iterator, Mapping
from itertools import chain

from batchgen.catalogue import validation
from batchgen.manifest.diagnostics import Diagnostics
from batchgen.manifest.nodes import Node
from batchgen.manifest.source import Position

MESSAGE = "the rest of this line is a comment; put the text in quotes"
QUOTES_AND_BLOCKS = frozenset("\"'|>")
"""The first characters of texts that cannot be cut by accident."""
AXIS = "a text of a matrix"


def warn_of_comments(fields: Mapping[str, Node], diagnostics: Diagnostics) -> None:
    """Warn of each text without quotes in an entry that ends where a comment begins with a letter or digit."""
    source = diagnostics.source
    if not source.odd_comments:
        return
    for node in chain.from_iterable(texts(node, AXIS if name == "matrix" else name) for name, node in fields.items()):
        offset, start = node.end_mark.index, source.text[node.start_mark.index : node.start_mark.index + 1]
        if offset in source.odd_comments and start not in QUOTES_AND_BLOCKS:
            hash_sign = source.text.index("#", offset)
            column = node.end_mark.column + hash_sign - offset
            position = Position(node.end_mark.line + 1, column + 1, 0, hash_sign - column)
            rest = source.line(position)[column : column + 60]
            diagnostics.warn(position, f"{MESSAGE}: {rest}")


def texts(node: Node, name: str) -> Iterator[Node]:
    """The values in the parameter `name` that are texts of any wording, at any depth."""
    if type(node.value) is dict:
        for key, child in node.value.items():
            yield from texts(child, AXIS if name == AXIS else key)
    elif type(node.value) is list:
        for child in node.value:
            yield from texts(child, name)
    elif type(node.value) is str and (name == AXIS or name in validation.texts()):
        yield node
    elif node.value is None and name in validation.texts():
        yield node  # all of it is a comment
