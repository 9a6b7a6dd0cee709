"""Reads one limit that a person types, by the models and in the sentences of the manifest's `limits`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from yaml.error import Mark

from batchgen.errors import UsageError
from batchgen.manifest.diagnostics import Diagnostics, Origin
from batchgen.manifest.header import KEYS, HeaderKeys
from batchgen.manifest.key_errors import validated
from batchgen.manifest.nodes import Node
from batchgen.manifest.scalars import resolve
from batchgen.manifest.source import Marked, Position, SourceText


class Typed:
    """The place of what is typed on a command line."""

    start_mark = end_mark = Mark("", 0, 0, 0, "", 0)


class TypedDiagnostics(Diagnostics):
    """Raises the first problem as a `UsageError`: it has no line to be shown at."""

    def __init__(self) -> None:
        super().__init__(SourceText(Path(), b""))

    def add(self, _where: Position | Marked, message: str, hint: str = "", _origin: Origin | None = None) -> None:
        raise UsageError(f"{message}; {hint}" if hint else message)


def read_limit(name: str, text: str) -> Any:
    """The value of a limit, as a manifest with `name: text` under `limits` has it. Raises `UsageError`."""
    if (typed := resolve(text)) is None:
        raise UsageError(f"`{name}` has no value")  # nobody means to have no cap by a variable that is not set
    value = Node(typed, text, Typed())
    limits = Node({name: value}, "", Typed(), {name: Typed()})
    keys = validated(HeaderKeys, "limits", Typed(), limits, KEYS, TypedDiagnostics())
    return getattr(keys.limits, name)
