"""What may be sent at all: within the cap on spending, in time to be done, and of the jobs that were selected.

Held in the table and decided in the transaction that claims, so that several processes share one cap to the cent.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from sqlalchemy import Connection

from batchgen.jobtable import ledger, pricelist, submission
from batchgen.jobtable.columns import plain
from batchgen.jobtable.ledger import Totals
from batchgen.jobtable.pricelist import PriceList
from batchgen.jobtable.submission import Candidate

LOOK_PAST = 200
"""Jobs that would not be done in time are passed over for shorter ones, so many at a time."""

LongestTime = Callable[[str, str], timedelta]
"""The time within which nine of ten generations of a model end, for a request."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a run was told to keep to. None: no such limit."""

    max_cost: Decimal | None = None
    """USD, for all that the batch has ever spent."""
    until: datetime | None = None
    selection: str | None = None
    """The mark of the jobs that may be sent (see `jobtable/selection.py`)."""

    @property
    def any(self) -> bool:
        return self != Terms()


class Hold(StrEnum):
    """Why a pending job is not sent although there is room."""

    BUDGET = "budget"  #: it would exceed the cap
    PRICE = "price"  #: a request is under way at an unknown price: no more until its charge is known
    TIME = "time"  #: it would not be done in time


MEANWHILE = {
    Hold.BUDGET: "what is left of the budget is reserved, or less than the next job costs",
    Hold.PRICE: "the price of a model is unknown, so its first job goes alone until its charge is known",
    Hold.TIME: "what is left would not be done in time",
}
"""Why nothing is sent, while what was sent is still on its way."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Jobs that may be claimed now, and what holds back the next one."""

    chosen: list[Candidate]
    hold: Hold | None = None
    sums: Totals = field(default_factory=Totals)
    wanted: Decimal | None = None
    """What the one that is held back is expected to cost, in USD."""


def choose(
    connection: Connection,
    batch_id: int,
    service: str,
    now: datetime,
    capacity: int,
    terms: Terms,
    prices: PriceList,
    longest: LongestTime,
    barred: Collection[str] = (),
) -> Choice:
    """Up to `room` pending jobs that keep to the terms, in their order, with what each is expected to cost; none of a
    `barred` model."""
    enough = capacity + LOOK_PAST * bool(terms.until)
    pending = submission.ready(connection, batch_id, now, enough, terms.selection, barred)
    in_time = [each for each in pending if not terms.until or now + longest(each.model, each.request) <= terms.until]
    hold = Hold.TIME if len(in_time) < len(pending) else None
    if terms.max_cost is None:
        return Choice([priced(each, prices) for each in in_time[:capacity]], hold)
    prices = replace(prices, highest=pricelist.highest(connection, service))
    sums = before = ledger.totals(connection, batch_id)
    wanted: Decimal | None = None
    chosen: list[Candidate] = []
    for each in in_time[:capacity]:
        candidate = priced(each, prices)
        added = ledger.reservation(candidate.estimated_usd)
        if sums.unpriced:
            hold = Hold.PRICE
            break
        # A job whose price nobody knows goes alone, while anything is left at all.
        if (sums + added).committed > terms.max_cost or (added.unpriced and sums.committed >= terms.max_cost):
            hold, wanted = Hold.BUDGET, candidate.estimated_usd
            break
        chosen.append(candidate)
        sums += added
    return Choice(chosen, hold, before, wanted)


def priced(candidate: Candidate, prices: PriceList) -> Candidate:
    """The job with its estimate."""
    return replace(candidate, estimated_usd=prices.estimate(candidate.model, candidate.endpoint, candidate.request))


def told_of(choice: Choice, terms: Terms) -> str:
    """Why a run sends no more, and what a person does about it."""
    sums = choice.sums
    match choice.hold:
        case Hold.BUDGET:
            reserved = f" and {plain(sums.reserved)} reserved" if sums.reserved else ""
            following = f", and the next job costs {plain(choice.wanted)}" if choice.wanted else ""
            cap = plain(terms.max_cost or Decimal(0))
            return (
                f"the budget is reached: {plain(sums.spent)} USD spent{reserved} of {cap}{following}."
                " Raise `max_cost` in the manifest, or give --max-cost, and the same command goes on"
            )
        case Hold.PRICE:
            return (
                "the charge of a request is not known yet, and the price of its model neither: nothing more is sent"
                " under a `max_cost` until it is. The same command asks again"
            )
        case Hold.TIME:
            until = f"{terms.until.astimezone():%Y-%m-%d %H:%M}" if terms.until else ""
            return f"what is left would not be done by {until}. With a later --until the same command goes on"
    return ""


def forecast(
    connection: Connection, batch_id: int, now: datetime, terms: Terms, prices: PriceList, most: int
) -> Decimal:
    """USD that the first `most` pending jobs are expected to cost, within the cap; unknown prices count nothing."""
    pending = submission.ready(connection, batch_id, now, most, terms.selection)
    wanted = sum((priced(each, prices).estimated_usd or Decimal(0) for each in pending), Decimal(0))
    if terms.max_cost is None:
        return wanted
    return min(wanted, max(terms.max_cost - ledger.totals(connection, batch_id).committed, Decimal(0)))
