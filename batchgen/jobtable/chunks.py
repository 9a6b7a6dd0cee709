"""Ids, keys and rows, a statement's worth at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")

CHUNK = 500
"""Ids or keys in one statement: below the least number of parameters that any SQLite allows (999)."""


def chunks_of(values: Sequence[T], first: int = 0, size: int | None = None) -> Iterator[Sequence[T]]:
    """The values from the place `first` on, in chunks of `size`, or of what one statement takes."""
    size = size or CHUNK
    return (values[start : start + size] for start in range(first, len(values), size))
