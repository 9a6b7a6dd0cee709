"""A batch's standing in words and in JSON."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from batchgen.jobs import State
from batchgen.jobtable.counts import Event, Standing, Wait


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


def counted(standing: Standing) -> str:
    """The states that hold jobs, in the order in which a job passes them."""
    parts = [f"{number} {state}" for state in State if (number := standing.counts[state])]
    marks = {"held": standing.held, "late": standing.late, "stuck": standing.stuck}
    parts += [f"{number} of them {mark}" for mark, number in marks.items() if number]
    return ", ".join(parts) or "no jobs"


def waiting(wait: Wait, now: datetime) -> str:
    """One thing that is waited for, and until when."""
    jobs = f"{wait.jobs} job{'' if wait.jobs == 1 else 's'}"
    if wait.until is None:
        return f"{jobs} wait for {wait.what}"
    if wait.until <= now:
        return f"{jobs} wait for {wait.what}: now"
    return f"{jobs} wait for {wait.what}: next look in {span(wait.until - now)}"


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


def standing_json(batch: str, standing: Standing, waits: Sequence[Wait] = ()) -> dict[str, Any]:
    """A batch's standing for programs. Money is text, because it is exact."""
    return {
        "batch": batch,
        "jobs": standing.total,
        "states": {str(state): number for state, number in standing.counts.items()},
        "held": standing.held,
        "late": standing.late,
        "stuck": standing.stuck,
        "cost_usd": format(standing.cost_usd, "f"),
        "bytes": standing.bytes,
        "waits": [
            {"for": wait.what, "until": wait.until.isoformat() if wait.until else None, "jobs": wait.jobs}
            for wait in waits
        ],
    }
