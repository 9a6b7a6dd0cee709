"""The one reading of the system clock."""

from datetime import UTC, datetime, timedelta

CORRECTION = timedelta(minutes=1)  # by which a clock may be corrected without anything being planned anew


def utcnow() -> datetime:
    """Now, as an aware UTC datetime. `jobtable/` and `limits/` never call it: they take `now` as an argument."""
    return datetime.now(UTC)


class SteadyClock:
    """Notices that the system's clock was set back, by a clock that is only ever ahead (the event loop's)."""

    def __init__(self) -> None:
        self.began_at: datetime | None = None
        """The system's time when the steady clock began: always the same, unless the system's clock is set."""

    def was_set_back(self, seconds: float) -> bool:
        """Whether the system's clock was set back since the last call. `seconds` is the steady clock's time."""
        before, self.began_at = self.began_at, utcnow() - timedelta(seconds=seconds)
        return before is not None and before - self.began_at > CORRECTION
