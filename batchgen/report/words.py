"""A batch's standing in words and in JSON."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from batchgen.jobs import State
from batchgen.jobtable.statistics import BatchSummary, Blocker, Event


def dollars(amount: Decimal) -> str:
    """USD with at least two places, and no more than it has."""
    exact = amount.normalize()
    places = max(2, -int(exact.as_tuple().exponent))
    return f"${exact:,.{places}f}"


def size(number: int) -> str:
    """Bytes as people read them."""
    amount = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000 or unit == "GB":
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    raise AssertionError


def span(length: timedelta) -> str:
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


def counted(batch_summary: BatchSummary) -> str:
    """The states that hold jobs, in the order in which a job passes them."""
    parts = [f"{number} {state}" for state in State if (number := batch_summary.counts[state])]
    return ", ".join([*parts, *marks(batch_summary)]) or "no jobs"


def marks(batch_summary: BatchSummary) -> list[str]:
    """What a person should notice about jobs that are counted in their states already."""
    told = {
        "held for a person": batch_summary.held,
        "late": batch_summary.late,
        "hard to download": batch_summary.stuck,
    }
    return [f"{number} of them {mark}" for mark, number in told.items() if number]


def summary(batch: str, service: str, batch_summary: BatchSummary) -> str:
    """A batch in one line: the states, what is on the disk, what it costs."""
    parts = [counted(batch_summary)]
    if batch_summary.bytes:
        parts.append(size(batch_summary.bytes))
    parts.append(f"{dollars(batch_summary.cost_usd)}{' (simulated)' if service == 'simulator' else ''}")
    return f"{batch}: {'; '.join(parts)}"


def plural(number: int, noun: str) -> str:
    """1 job, 2 jobs."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def shortened(names: Sequence[str], most: int = 20) -> str:
    """Names in a row, the first `most` of them."""
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


def waiting(wait: Blocker, now: datetime) -> str:
    """One thing that is waited for, and until when."""
    told = f"{plural(wait.jobs, 'job')} wait{'s' if wait.jobs == 1 else ''} for {wait.what}"
    if wait.until is None or wait.until - now < timedelta(seconds=1):
        return told
    return f"{told}: next look in {span(wait.until - now)}"


DEEDS = {
    State.PENDING: "pending",
    State.SUBMITTING: "submitting as",
    State.UNCONFIRMED: "unconfirmed:",
    State.GENERATING: "accepted as",
    State.DOWNLOADING: "finished at the service",
    State.DONE: "delivered",
    State.FAILED: "failed:",
    State.CANCELLED: "cancelled:",
}


def happened(event: Event) -> str:
    """One line of the history, stamped in local time."""
    deed = "back to pending:" if event.from_state and event.to_state == State.PENDING else DEEDS[event.to_state]
    return f"{event.at.astimezone():%H:%M:%S}  {event.key}  {deed} {event.detail or ''}".rstrip()


def event_json(event: Event) -> dict[str, Any]:
    """One line of the history for programs."""
    return {
        "event": "moved",
        "at": event.at.isoformat(),
        "id": event.key,
        "from": event.from_state,
        "to": event.to_state,
        "detail": event.detail,
    }


def standing_json(batch: str, batch_summary: BatchSummary, blockers: Sequence[Blocker] = ()) -> dict[str, Any]:
    """A batch's standing for programs. Money is text, because it is exact."""
    return {
        "batch": batch,
        "jobs": batch_summary.total,
        "states": {str(state): number for state, number in batch_summary.counts.items()},
        "held": batch_summary.held,
        "late": batch_summary.late,
        "stuck": batch_summary.stuck,
        "cost_usd": format(batch_summary.cost_usd, "f"),
        "bytes": batch_summary.bytes,
        "waits": [
            {"for": wait.what, "until": wait.until.isoformat() if wait.until else None, "jobs": wait.jobs}
            for wait in blockers
        ],
    }
