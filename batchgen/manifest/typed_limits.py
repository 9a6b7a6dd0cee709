"""Reads one limit that a person types, by the models and in the sentences of the manifest's `limits`."""

from __future__ import annotations

from typing import Any

from yaml.error import Mark

from batchgen.errors import UsageError
from batchgen.manifest.header import KEYS, HeaderKeys
from batchgen.manifest.key_errors import validated
from batchgen.manifest.nodes import Node
from batchgen.manifest.scalars import resolve


class Typed:
    """The place of what is typed on a command line."""

    start_mark = end_mark = Mark("", 0, 0, 0, "", 0)


def read_limit(name: str, text: str) -> Any:
    """The value of a limit, as a manifest with `name: text` under `limits` has it. Raises `UsageError`."""
    if (typed := resolve(text)) is None:
        raise UsageError(f"`{name}` has no value")  # nobody means to have no cap by a variable that is not set
    limits = Node({name: Node(typed, text, Typed())}, "", Typed(), {name: Typed()})
    keys, mistakes = validated(HeaderKeys, "limits", Typed(), limits, KEYS)
    if mistakes:
        _, message, hint = mistakes[0]
        raise UsageError(f"{message}; {hint}" if hint else message)
    return getattr(keys.limits, name)
