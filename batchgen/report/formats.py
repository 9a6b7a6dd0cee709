"""Numbers, amounts, times and lists of names as a person reads them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from batchgen.catalogue.amounts import amount_text


def dollars(amount: Decimal) -> str:
    """USD with at least two decimal places, and as many as the amount needs."""
    _, _, decimals = amount_text(amount).partition(".")
    return f"${amount:,.{max(2, len(decimals))}f}"


def duration(length: timedelta) -> str:
    """A length of time: 9 s, 3 m 20 s, 2 h 05 m."""
    seconds = max(0, round(length.total_seconds()))
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} m {seconds % 60:02} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02} m"


def local_time(moment: datetime, now: datetime) -> str:
    """A moment in this machine's time zone, to the minute; with its date unless that is today's."""
    local = moment.astimezone()
    return f"{local:%H:%M}" if local.date() == now.astimezone().date() else f"{local:%Y-%m-%d %H:%M}"


def shortened(names: Sequence[str], limit: int = 20) -> str:
    """The first `limit` names, and how many more there are."""
    rest = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + rest


def counts(parts: Iterable[tuple[str, int]]) -> str:
    """The counts that are not zero: 2 pending, 1 done."""
    return ", ".join(f"{number} {label}" for label, number in parts if number)
