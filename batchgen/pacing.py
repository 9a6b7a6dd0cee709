"""When to look again: few polls while a video cannot be ready, closer ones when it is likely to be."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta

from batchgen.catalogue import typical_seconds
from batchgen.jobs import Job

FIRST_LOOK = 0.75  # of the median generation time
STEP = 0.04  # of the median, while a video is likely
SHORTEST_SECONDS = 0.25
LONGEST_SECONDS = 60.0
LATE_SECONDS = 300.0


def duration_of(request: str) -> float | None:
    """The clip's length in seconds, where a request names it."""
    try:
        return float(json.loads(request)["duration"])
    except (KeyError, TypeError, ValueError):
        return None


class Pace:
    """Median generation times in seconds by model: as the service measures them, else as documented."""

    def __init__(self, measured: Mapping[str, float]) -> None:
        self._measured = measured

    def median(self, model: str, duration: float | None) -> float:
        """The usual generation time for a clip of `duration` seconds."""
        documented = typical_seconds(model, duration)
        if model not in self._measured:
            return documented
        return self._measured[model] * documented / typical_seconds(model, None)

    def next_look(self, job: Job, submitted_at: datetime, deadline_at: datetime, now: datetime) -> datetime:
        """When to fetch a generation next."""
        if now >= deadline_at:
            return now + timedelta(seconds=LATE_SECONDS)
        median = self.median(job.model, duration_of(job.request))
        first = submitted_at + timedelta(seconds=FIRST_LOOK * median)
        if now < first:
            return max(first, now + timedelta(seconds=SHORTEST_SECONDS))
        age = (now - submitted_at).total_seconds()
        # Past twice the median the tail is long: look in proportion to the age.
        step = max(STEP * median, 0.1 * (age - 2 * median))
        return now + timedelta(seconds=min(max(step, SHORTEST_SECONDS), LONGEST_SECONDS))


def backoff(strikes: int, first_seconds: float, longest_seconds: float) -> timedelta:
    """A pause that doubles with each failure in a row. `strikes` counts the failures so far, this one included."""
    return timedelta(seconds=min(first_seconds * 2 ** min(strikes - 1, 30), longest_seconds))
