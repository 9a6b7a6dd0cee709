"""The one reading of the system clock, and how far the clock of the database's server is ahead of it.

Several machines that work on one job table agree on one clock, that of the database's server: leases, limits and plans
are judged by it, whatever the clock of a machine says.
"""

from datetime import UTC, datetime, timedelta

CORRECTION = timedelta(minutes=1)  # by which a clock may be corrected without anything being planned anew


def utcnow() -> datetime:
    """Now, as an aware UTC datetime. `jobtable/` and `limits/` never call it: they take `now` as an argument."""
    return machine_now() + SERVER.offset


def machine_now() -> datetime:
    """Now by this machine's own clock, for what concerns no other machine."""
    return datetime.now(UTC)


class ServerClock:
    """The clock of the database's server, as an offset from this machine's clock; zero where the table is a file."""

    def __init__(self) -> None:
        self.offset = timedelta(0)
        self.users = 0
        """How many open job tables go by it, as where a program asks for the status of a batch while it runs."""

    def learn(self, asked_at: datetime, answer: datetime, answered_at: datetime) -> None:
        """Take over an answer of the server, with the machine's time before and after the question (Cristian, 1989).

        An offset that may still be right stays, so that time does not jitter with the network's delay.
        """
        lowest, highest = answer - answered_at, answer - asked_at
        if not lowest <= self.offset <= highest:
            self.offset = (lowest + highest) / 2

    def follow(self) -> None:
        """Go by it, until `leave`."""
        self.users += 1

    def leave(self) -> None:
        """Go by this machine's own clock again, unless another job table is open."""
        self.users = max(self.users - 1, 0)
        if not self.users:
            self.offset = timedelta(0)


SERVER = ServerClock()


class SteadyClock:
    """Notices that the system's clock was set back, by a clock that is only ever ahead (the event loop's)."""

    def __init__(self) -> None:
        self.began_at: datetime | None = None
        """The system's time when the steady clock began: always the same, unless the system's clock is set."""

    def was_set_back(self, seconds: float) -> bool:
        """Whether the system's clock was set back since the last call. `seconds` is the steady clock's time."""
        before, self.began_at = self.began_at, utcnow() - timedelta(seconds=seconds)
        return before is not None and before - self.began_at > CORRECTION
