"""Pauses that grow with each failure in a row."""

from __future__ import annotations

from datetime import timedelta


def backoff(failures: int, first_seconds: float, longest_seconds: float) -> timedelta:
    """Exponential backoff: a pause that doubles with each failure in a row. `failures` counts this one too."""
    return timedelta(seconds=min(first_seconds * 2 ** min(failures - 1, 30), longest_seconds))
