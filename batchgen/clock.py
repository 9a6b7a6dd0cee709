"""The one reading of the system clock."""

from datetime import UTC, datetime


def utcnow() -> datetime:
    """Now, as an aware UTC datetime. `jobtable/` and `limits/` never call it: they take `now` as an argument."""
    return datetime.now(UTC)
