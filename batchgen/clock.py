"""The one reading of the system clock."""

from datetime import UTC, datetime


def utcnow() -> datetime:
    """Now, as an aware UTC datetime. Everything below the runner takes `now` as an argument instead."""
    return datetime.now(UTC)
