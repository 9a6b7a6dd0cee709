"""The last price list of a service, what was charged for each of its models, and live request schemas.

Charges take precedence over a list price that is lower or missing.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from decimal import ROUND_UP, Decimal, DecimalException
from functools import cached_property
from typing import Any, TypeVar

from sqlalchemy import Connection, bindparam, insert, select, update

from batchgen.catalogue.amounts import MONEY_STEP, amount_text
from batchgen.catalogue.openapi import ODD_DOCUMENT, usable_schemas
from batchgen.catalogue.prices import quote, with_defaults
from batchgen.catalogue.register import LearnedModel, canonical, learn
from batchgen.catalogue.wording import plural
from batchgen.jobtable.joins import ATTEMPTS
from batchgen.jobtable.schema import attempts, jobs, prices
from batchgen.jobtable.transition import guarded_update
from batchgen.services.base import Listing

LISTED = ("pricing", "etag", "listed_at", "alias_of", "document_url")
"""The columns that a list has of a model."""
KINDS_MAX = 200
"""Lengths, and prices, whose charges are kept of one model: the few that it has."""
K = TypeVar("K")


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


@dataclass(frozen=True)
class PriceList:
    """Prices by model as the service listed them at `listed_at`, and what was charged for each model."""

    listed_at: datetime | None = None
    etag: str | None = None
    listed: dict[str, str] = field(default_factory=dict)
    charged: Mapping[str, SeenCharges] = field(default_factory=dict)

    @cached_property
    def pricing(self) -> dict[str, dict[str, Any]]:
        return {model: json.loads(entry) for model, entry in self.listed.items()}

    def quote(self, model: str, endpoint: str, request: str) -> Decimal | None:
        """The price of this request in USD; None where the list has none."""
        listed = model if model in self.listed else canonical(model)
        if listed not in self.listed:
            return None
        return quote(self.pricing[listed], with_defaults(model, endpoint, json.loads(request)))

    def estimate(self, model: str, endpoint: str, request: str, seconds: float | None = None) -> Decimal | None:
        return self.corrected(self.quote(model, endpoint, request), model, seconds)

    def corrected(self, quoted: Decimal | None, model: str, seconds: float | None) -> Decimal | None:
        """The listed price, or what was charged where that was more; without a listed price, what was charged for a
        clip of so many seconds."""
        charges = self.charged.get(model, SeenCharges())
        return charges.expected(seconds) if quoted is None else charges.corrected(quoted)


def load(connection: Connection, service: str) -> PriceList:
    return price_list(list(connection.execute(select(prices).where(prices.c.service == service))))


def quote_of(connection: Connection, service: str, attempt_id: int) -> Decimal | None:
    """The listed price of the request of an attempt; None where the list has none."""
    sent = connection.execute(SENT, {"attempt": attempt_id}).one()
    of_models = {"of_service": service, "of_models": [sent.model, canonical(sent.model)]}
    return price_list(connection.execute(PRICES_OF_MODELS, of_models).all()).quote(*sent)


def price_list(rows: Sequence[Any]) -> PriceList:
    listed = [row for row in rows if row.pricing is not None]
    return PriceList(
        listed_at=max((row.listed_at for row in listed), default=None),
        etag=listed[0].etag if listed else None,
        listed={row.model: row.pricing for row in listed},
        charged={row.model: seen_charges(row) for row in rows if row.highest_usd is not None},
    )


def cost_of(connection: Connection, service: str, jobs: Iterable[Any]) -> str:
    """How many clips these jobs (rows, or of a manifest) make, and what they are expected to cost, in words."""
    prices = load(connection, service)
    costs = [prices.estimate(job.model, job.endpoint, job.request, job.clip_seconds) for job in jobs]
    estimates = [cost for cost in costs if cost is not None]
    clips, unknown = plural(len(costs), "clip"), len(costs) - len(estimates)
    if not estimates:
        return f"{clips} at an unknown price"
    without = f", without {unknown} at an unknown price" if unknown else ""
    return f"{clips} for about {amount_text(sum(estimates, Decimal(0)))} USD{without}"


def store(connection: Connection, service: str, listing: Listing, now: datetime) -> None:
    """Replace the stored list. A list that has not changed only gets a newer date."""
    of_service = update(prices).where(prices.c.service == service)
    if listing.pricing is None:
        connection.execute(of_service.where(prices.c.pricing.is_not(None)).values(listed_at=now))
        return
    connection.execute(of_service.values(dict.fromkeys(LISTED)))
    rows: defaultdict[str, dict[str, Any]] = defaultdict(lambda: dict.fromkeys(LISTED))
    for model, pricing in listing.pricing.items():
        rows[model] |= {"pricing": pricing, "etag": listing.etag, "listed_at": now}
    for model, url in listing.documents.items():
        rows[model]["document_url"] = url
    for model, name in listing.names.items():
        rows[model]["alias_of"] = name
    stored = set(connection.execute(select(prices.c.model).where(prices.c.service == service)).scalars())
    if old := [{"of_service": service, "of_model": model, **row} for model, row in rows.items() if model in stored]:
        of_model = (prices.c.service == bindparam("of_service"), prices.c.model == bindparam("of_model"))
        connection.execute(update(prices).where(*of_model), old)
    if new := [{"service": service, "model": model, **row} for model, row in rows.items() if model not in stored]:
        connection.execute(insert(prices), new)


def load_charges(connection: Connection, service: str) -> dict[str, SeenCharges]:
    charged = CHARGES_OF_SERVICE.where(prices.c.highest_usd.is_not(None))
    return {row.model: seen_charges(row) for row in connection.execute(charged, {"of_service": service})}


def seen_charges(row: Any) -> SeenCharges:
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


def keep_charge(
    connection: Connection, service: str, model: str, attempt_id: int, cost: Decimal, quote: Decimal | None
) -> None:
    """Take what an attempt was charged into the highest charges: of its model, of clips of its length, and of requests
    of its listed price, where that was lower."""
    row = connection.execute(CHARGES_OF_MODEL, {"of_service": service, "of_model": model}).one_or_none()
    before = seen_charges(row) if row else SeenCharges()
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


def documents(connection: Connection, service: str) -> dict[str, str]:
    """Model → address of its live document, for models that the catalogue lacks."""
    of_service = (prices.c.service == service, prices.c.document_url.is_not(None))
    return {row.model: row.document_url for row in connection.execute(select(prices).where(*of_service))}


def store_schemas(
    connection: Connection, service: str, schemas: Mapping[str, Mapping[str, Any]], now: datetime
) -> None:
    """Keep the request schemas of models, by path, as the service documents them now."""
    for model, of_paths in schemas.items():
        documented = {"schemas": json.dumps(of_paths), "documented_at": now}
        guarded_update(connection, prices, {"service": service, "model": model}, documented)


def learn_models(connection: Connection, service: str) -> None:
    """Let the catalogue know the models and names that `models --refresh` has stored."""
    rows = list(connection.execute(select(prices).where(prices.c.service == service)))
    learned: dict[str, LearnedModel] = {}
    for row in rows:
        # A table may have come with a manifest of somebody else: what is in it is judged again.
        with suppress(*ODD_DOCUMENT):
            if row.schemas and row.documented_at:
                learned[row.model] = LearnedModel(usable_schemas(json.loads(row.schemas), row.model), row.documented_at)
    learn(learned, {row.model: row.alias_of for row in rows if row.alias_of is not None})


CHARGES_OF_SERVICE = select(prices.c.model, prices.c.highest_usd, prices.c.charged).where(
    prices.c.service == bindparam("of_service")
)
CHARGES_OF_MODEL = CHARGES_OF_SERVICE.where(prices.c.model == bindparam("of_model"))
SELECT_CLIP_SECONDS = select(jobs.c.clip_seconds).select_from(ATTEMPTS).where(attempts.c.id == bindparam("attempt"))
SENT = (
    select(jobs.c.model, jobs.c.endpoint, jobs.c.request)
    .select_from(ATTEMPTS)
    .where(attempts.c.id == bindparam("attempt"))
)
PRICES_OF_MODELS = select(prices).where(
    prices.c.service == bindparam("of_service"), prices.c.model.in_(bindparam("of_models", expanding=True))
)
