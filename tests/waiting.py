"""Waiting for a condition, instead of sleeping for a guessed time; reading a job table from outside."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

JOBS = """
SELECT jobs.*, attempts.generation_id, attempts.cost_usd, attempts.input_digests,
    outputs.bytes, outputs.sha256, outputs.path
FROM jobs LEFT JOIN attempts ON attempts.id = jobs.attempt_id LEFT JOIN outputs ON outputs.attempt_id = attempts.id"""
"""Every job with its current attempt and its file."""
RESUMABLE = "SELECT * FROM outputs WHERE etag IS NOT NULL"
"""The files of which a part is on the disk that another run can resume."""
TIMEOUT_SECONDS = 30.0  # many times what any condition takes on a loaded machine
CHECK_SECONDS = 0.005


def until(condition: Callable[[], T], description: str = "") -> T:
    """The first true value that `condition` returns. Fails after `TIMEOUT_SECONDS`.

    A pause is at least as long as the check before it, which would slow down what is waited for.
    """
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while True:
        began_at = time.monotonic()
        if value := condition():
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"never came true: {description or condition.__name__}")
        time.sleep(max(CHECK_SECONDS, time.monotonic() - began_at))


def rows(database: Path, sql: str, *values: object) -> list[dict[str, Any]]:
    """The rows of a SELECT, by column name; none while the file or table is missing, or the database cannot be read.

    Raises `sqlite3.OperationalError` for a query of a column that does not exist: it would find nothing for ever.
    """
    if not database.exists():
        return []
    try:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(sql, values)]
    except sqlite3.OperationalError as error:
        if "no such column" in str(error) or "syntax error" in str(error):
            raise
        return []


def states(database: Path) -> dict[str, int]:
    """How many jobs are in each state."""
    return {row["state"]: row["n"] for row in rows(database, "SELECT state, count(*) AS n FROM jobs GROUP BY state")}
