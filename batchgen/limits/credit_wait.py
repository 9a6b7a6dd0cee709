"""The wait of a run for a top-up of the account: asks the balance at growing intervals, and says when to go on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from batchgen.catalogue.amounts import amount_text
from batchgen.limits.rate import backoff
from batchgen.services.outcomes import Blocked

FIRST_SECONDS = 30.0  # between two questions: the backoff begins so, since a top-up takes a person a minute
LONGEST_SECONDS = 300.0  # of the backoff: a topped-up account must not stay unnoticed for longer


@dataclass(slots=True)
class CreditWait:
    """Whether a run waits for credits. It sends nothing meanwhile, and one request at a time after it."""

    refusal: Blocked | None = None
    """The service's refusal, while the run waits."""
    refusals: int = 0
    """In a row, without an accepted request: a plan's limit refuses although the balance is high enough."""
    questions: int = 0
    next_at: datetime | None = None
    balance: Decimal | None = None
    """USD, as the service said last."""
    next_cost: Decimal | None = None
    """USD that the next job is expected to cost."""

    def refused(self, refusal: Blocked, now: datetime) -> None:
        """A request was refused for want of credits."""
        if self.refusal is None:
            self.refusal, self.refusals, self.questions = refusal, self.refusals + 1, 0
            self.postpone(now)

    def accepted(self) -> None:
        """A request was accepted, so that there are credits."""
        self.refusals = 0

    def is_due(self, now: datetime) -> bool:
        return self.refusal is not None and self.next_at is not None and now >= self.next_at

    def answered(self, balance: Decimal | None, next_cost: Decimal | None, now: datetime) -> bool:
        """Take the balance that the service says, or None where it says none. Whether the run goes on.

        Without a balance, or without a price, one request tries: a refusal costs nothing.
        """
        before, self.balance, self.next_cost = self.balance, balance, next_cost
        if balance is None:
            goes_on = True
        elif next_cost is not None:
            goes_on = balance >= next_cost
        else:
            goes_on = before is None or balance > before
        if goes_on:
            self.refusal = self.next_at = None
        else:
            self.postpone(now)
        return goes_on

    def postpone(self, now: datetime) -> None:
        self.questions += 1
        self.next_at = now + backoff(max(self.questions, self.refusals), FIRST_SECONDS, LONGEST_SECONDS)

    def __str__(self) -> str:
        """What the run waits for, in words."""
        parts = [f"it has {amount_text(self.balance)} USD" if self.balance is not None else ""]
        parts.append(f"the next job costs {amount_text(self.next_cost)}" if self.next_cost is not None else "")
        amounts = ", ".join(filter(None, parts))
        return f"the account has no credits left{f' ({amounts})' if amounts else ''}"
