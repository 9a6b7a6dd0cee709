"""The cap on spending: which pending jobs fit under it, and what holds the next one back.

Decided from rows, in the transaction that claims (`RunContext.choose`): several processes share one cap to the cent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from batchgen.catalogue.amounts import amount_text
from batchgen.jobtable import ledger
from batchgen.jobtable.kinds import Hold, SettingName
from batchgen.jobtable.ledger import ZERO, Totals
from batchgen.jobtable.pricelist import PriceList
from batchgen.jobtable.submission import Candidate

LOOKAHEAD = 200
"""Jobs read beyond those that fit, when some would not be done in time: a shorter one may stand behind a longer one."""


HOLD_REASONS = {
    Hold.BUDGET: "what is left of the budget is reserved, or less than the next job costs",
    Hold.PRICE: "the price of a model is unknown, so its first job goes alone until its charge is known",
    Hold.TIME: "what is left would not be done in time",
}
"""What a person is told while nothing more is submitted and generations are still in flight."""
SETTING_OF = {Hold.BUDGET: SettingName.MAX_COST, Hold.TIME: SettingName.UNTIL}
"""The limit that holds back, by its name for `batchgen set`."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The jobs that may be claimed now, and why the next one may not."""

    chosen: Sequence[Candidate]
    hold: Hold | None = None
    next_cost: Decimal | None = None
    """USD that the next job is expected to cost."""


def choose(jobs: Sequence[Candidate], totals: Totals, max_cost: Decimal) -> Choice:
    """The first of these jobs that fit under the cap, beside what the batch has spent and reserved."""
    for number, job in enumerate(jobs):
        cost = ledger.reservation(job.estimated_usd)
        if totals.unpriced:
            return Choice(jobs[:number], Hold.PRICE)
        # A job of an unknown price is submitted alone, while anything is left at all.
        if (totals + cost).committed > max_cost or (cost.unpriced and totals.committed >= max_cost):
            return Choice(jobs[:number], Hold.BUDGET, job.estimated_usd)
        totals += cost
    return Choice(jobs)


def with_estimates(jobs: Sequence[Candidate], prices: PriceList) -> list[Candidate]:
    """The jobs with their estimated costs."""
    return [
        replace(job, estimated_usd=prices.estimate(job.model, job.endpoint, job.request, job.clip_seconds))
        for job in jobs
    ]


def explanation(choice: Choice, max_cost: Decimal | None, until: datetime | None, how: str = "") -> str:
    """Why a run submits no more, and what a person does about it (`how`); "" where nothing holds it back."""
    match choice.hold:
        case Hold.BUDGET:
            price = amount_text(choice.next_cost) if choice.next_cost else ""
            reached = f"does not pay the next job, which costs {price}" if price else "is reached"
            return (
                f"the budget of {amount_text(max_cost or ZERO)} USD {reached}."
                f" {how or 'Raise `max_cost` in the manifest, or give --max-cost'}, and the same command goes on"
            )
        case Hold.PRICE:
            return (
                "the charge of a request is not known yet, and the price of its model neither: nothing more is sent"
                " under a `max_cost` until it is. The same command asks again"
            )
        case Hold.TIME:
            at = f"{until.astimezone():%Y-%m-%d %H:%M}" if until else ""
            later = f"{how}, and" if how else "With a later --until"
            return f"what is left would not be done by {at}. {later} the same command goes on"
    return ""
