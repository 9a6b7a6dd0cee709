"""What the account was charged for each model.

These charges take precedence over a list price that is lower or missing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import ROUND_UP, Decimal, DecimalException
from typing import Any, TypeVar

from sqlalchemy import Connection, bindparam, insert, select

from batchgen.catalogue.amounts import MONEY_STEP, amount_text
from batchgen.jobtable.joins import ATTEMPTS
from batchgen.jobtable.schema import attempts, jobs, prices
from batchgen.jobtable.transition import guarded_update

K = TypeVar("K")

KINDS_MAX = 200
"""Lengths, and prices, that are kept of one model: the few that it has."""


@dataclass(frozen=True, slots=True)
class SeenCharges:
    """The highest charges for one model, in USD."""

    highest: Decimal | None = None
    by_seconds: Mapping[float, Decimal] = field(default_factory=dict)
    """By the length of the clip."""
    by_quote: Mapping[Decimal, Decimal] = field(default_factory=dict)
    """By the price of the list, where the charge was higher."""

    def corrected(self, quote: Decimal) -> Decimal:
        """The price of the list; what was charged for requests of this price, where that was more."""
        return max(quote, self.by_quote.get(quote, quote))

    def expected(self, seconds: float | None) -> Decimal | None:
        """What a clip of this length is expected to cost by the charges alone; None where none was seen.

        A length that was never charged costs as much for a second as the dearest one.
        """
        if not seconds or not self.by_seconds:
            return self.highest
        if seconds in self.by_seconds:
            return self.by_seconds[seconds]
        for_a_second = max(charge / Decimal(str(length)) for length, charge in self.by_seconds.items())
        return (for_a_second * Decimal(str(seconds))).quantize(MONEY_STEP, ROUND_UP)


def load(connection: Connection, service: str) -> dict[str, SeenCharges]:
    charged = CHARGES_OF_SERVICE.where(prices.c.highest_usd.is_not(None))
    return {row.model: seen(row) for row in connection.execute(charged, {"of_service": service})}


def seen(row: Any) -> SeenCharges:
    """The charges in a row, which somebody else may have written: what cannot be read is left out."""
    try:
        document = json.loads(row.charged or "{}")
        by_seconds = {
            float(key): Decimal(value) for key, value in document.get("seconds", {}).items() if float(key) > 0
        }
        by_quote = {Decimal(key): Decimal(value) for key, value in document.get("quotes", {}).items()}
        # An older version kept them by what was expected, which may be a charge: 0.3 → 0.4, 0.4 → 0.5.
        older = {Decimal(key): Decimal(value) for key, value in document.get("estimates", {}).items()}
        for expected, charge in sorted(older.items(), reverse=True):
            raise_to(by_quote, expected, max(charge, by_quote.get(charge, charge)))
        if not all(amount.is_finite() for amount in (*by_seconds.values(), *by_quote, *by_quote.values())):
            return SeenCharges(row.highest_usd)
    except (ValueError, TypeError, AttributeError, DecimalException, RecursionError):
        return SeenCharges(row.highest_usd)
    return SeenCharges(row.highest_usd, by_seconds, by_quote)


def keep(
    connection: Connection, service: str, model: str, attempt_id: int, cost: Decimal, quote: Decimal | None
) -> None:
    """Take what an attempt was charged into the highest charges: of its model, of clips of its length, and of requests
    of its listed price, where that was lower."""
    row = connection.execute(CHARGES_OF_MODEL, {"of_service": service, "of_model": model}).one_or_none()
    before = seen(row) if row else SeenCharges()
    by_seconds, by_quote = dict(before.by_seconds), dict(before.by_quote)
    seconds = connection.execute(SELECT_CLIP_SECONDS, {"attempt": attempt_id}).scalar()
    if seconds:
        raise_to(by_seconds, seconds, cost)
    if quote is not None and quote < cost:
        raise_to(by_quote, quote, cost)
    highest = cost if before.highest is None else max(cost, before.highest)
    after = SeenCharges(highest, by_seconds, by_quote)
    if after == before:
        return
    charged = {
        "seconds": {str(length): amount_text(amount) for length, amount in by_seconds.items()},
        "quotes": {amount_text(listed): amount_text(amount) for listed, amount in by_quote.items()},
    }
    values = {"highest_usd": highest, "charged": json.dumps(charged)}
    if row is None:
        connection.execute(insert(prices).values(service=service, model=model, **values))
    else:
        guarded_update(connection, prices, {"service": service, "model": model}, values)


def raise_to(highest: dict[K, Decimal], kind: K, cost: Decimal) -> None:
    """Make the highest charge of a kind at least `cost`. A new kind is left out where there are `KINDS_MAX` already."""
    if kind in highest or len(highest) < KINDS_MAX:
        highest[kind] = max(cost, highest.get(kind, cost))


CHARGES_OF_SERVICE = select(prices.c.model, prices.c.highest_usd, prices.c.charged).where(
    prices.c.service == bindparam("of_service")
)
CHARGES_OF_MODEL = CHARGES_OF_SERVICE.where(prices.c.model == bindparam("of_model"))
SELECT_CLIP_SECONDS = select(jobs.c.clip_seconds).select_from(ATTEMPTS).where(attempts.c.id == bindparam("attempt"))
