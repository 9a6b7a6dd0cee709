"""The `limits` of a manifest: what a run may do at once, and what it may cost.

Each limit is one field, with its type and default, and one entry of `LIMIT_KEYS`, with its range and meaning, for the
reader and for the schema of editors.
"""

from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

Auto = Literal["auto"]
AUTO: Auto = "auto"


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a run. The defaults are safe for a new account; `AUTO` is learned from the service's answers."""

    submits_per_minute: float | Auto = 30.0
    in_flight: int | Auto = 10
    downloads: int = 4
    max_cost: Decimal | None = None
    deadline_minutes: float = 60.0
    unconfirmed_minutes: float = 15.0
    on_unconfirmed: Literal["hold", "resubmit"] = "hold"
    polls_per_minute: float = 6_000.0

    def deadline_at(self, now: datetime) -> datetime:
        """Until when a generation is waited for that the service has accepted, or is asked for again, at `now`."""
        return now + timedelta(minutes=self.deadline_minutes)


NAMES = tuple(field.name for field in fields(Limits))


def up_to(most: int, kind: str = "number") -> dict[str, Any]:
    """A number above zero, in JSON Schema."""
    return {"exclusiveMinimum": 0, "maximum": most, "type": kind}


LEARNED = {"const": AUTO, "type": "string"}
RATE = up_to(60_000)
"""Requests per minute: a thousand a second is more than any service of this kind takes."""
MINUTES = up_to(7 * 24 * 60)
"""At most a week: no generation takes longer, and a higher number is a mistake in the unit."""
LIMIT_KEYS: dict[str, dict[str, Any]] = {
    "submits_per_minute": {
        "anyOf": [RATE, LEARNED],
        "description": "Create calls per minute; auto: learned from the service's answers.",
    },
    "in_flight": {
        "anyOf": [up_to(1000, "integer"), LEARNED],
        "description": "Generations in flight at one time; auto: learned from the service's answers.",
    },
    "downloads": {"description": "Files downloaded at one time.", **up_to(32, "integer")},
    "max_cost": {
        "anyOf": [up_to(10**9), {"type": "null"}],
        "description": "USD that the batch may cost in all its runs; no cap unless given.",
        "title": "an amount in USD, such as 50.00",
    },
    "deadline_minutes": {
        "description": "An older generation is late: it is collected, but no run waits for it.",
        **MINUTES,
    },
    "unconfirmed_minutes": {
        "description": "Minutes to search for a request whose answer was lost, until `on_unconfirmed` applies.",
        **MINUTES,
    },
    "on_unconfirmed": {
        "description": "What happens to a request that was not found: hold asks a person; resubmit may pay twice.",
        "enum": ["hold", "resubmit"],
        "type": "string",
    },
    "polls_per_minute": {
        "description": "Status requests per minute; a service that refuses some is asked less often.",
        **RATE,
    },
}
