"""The one reading of the system clock, and how a moment is told to a person."""

from datetime import UTC, datetime


def utcnow() -> datetime:
    """Now, as an aware UTC datetime. Everything below the runner takes `now` as an argument instead."""
    return datetime.now(UTC)


def told(moment: datetime, now: datetime) -> str:
    """Local time to the minute; with the date where it is not today's."""
    here = moment.astimezone()
    return f"{here:%H:%M}" if here.date() == now.astimezone().date() else f"{here:%Y-%m-%d %H:%M}"
