"""Waiting for what a test needs to see, and never for a guessed time."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

PATIENCE_SECONDS = 30.0  # then the test has failed
LOOK_SECONDS = 0.005


def until(seen: Callable[[], T], what: str = "") -> T:
    """The first true value of `seen`. Fails after `PATIENCE_SECONDS`."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        if value := seen():
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"never seen: {what or seen.__name__}")
        time.sleep(LOOK_SECONDS)


def rows(database: Path, sql: str, *values: object) -> list[dict[str, Any]]:
    """Rows of a SELECT, by column name; none while there is no such file or table yet."""
    if not database.exists():
        return []
    try:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(sql, values)]
    except sqlite3.OperationalError:
        return []


def states(database: Path) -> dict[str, int]:
    """How many jobs are in each state."""
    return {row["state"]: row["n"] for row in rows(database, "SELECT state, count(*) AS n FROM jobs GROUP BY state")}
