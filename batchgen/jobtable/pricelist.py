"""The last price list that a service gave, and what its models were seen to charge."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from typing import Any

from sqlalchemy import Connection, insert, select, update

from batchgen.catalogue import quote, with_defaults
from batchgen.jobtable.schema import prices
from batchgen.services.base import Listing


@dataclass(frozen=True)
class PriceList:
    """Prices by model as the service listed them at `listed_at`, and the highest charge seen for each model."""

    listed_at: datetime | None = None
    etag: str | None = None
    listed: dict[str, str] = field(default_factory=dict)
    highest: dict[str, Decimal] = field(default_factory=dict)

    @cached_property
    def pricing(self) -> dict[str, dict[str, Any]]:
        return {model: json.loads(entry) for model, entry in self.listed.items()}

    def quote(self, model: str, endpoint: str, request: str) -> Decimal | None:
        """USD that the list asks for this request; None where it does not tell."""
        if model not in self.listed:
            return None
        return quote(self.pricing[model], with_defaults(model, endpoint, json.loads(request)))

    def estimate(self, model: str, endpoint: str, request: str) -> Decimal | None:
        """What the list says; where it does not tell, the highest charge ever seen for the model."""
        quoted = self.quote(model, endpoint, request)
        return self.highest.get(model) if quoted is None else quoted


def known(connection: Connection, service: str) -> PriceList:
    """The last known prices of a service."""
    rows = list(connection.execute(select(prices).where(prices.c.service == service)))
    listed = [row for row in rows if row.pricing is not None]
    return PriceList(
        listed_at=max((row.listed_at for row in listed), default=None),
        etag=listed[0].etag if listed else None,
        listed={row.model: row.pricing for row in listed},
        highest=highest(connection, service),
    )


def highest(connection: Connection, service: str) -> dict[str, Decimal]:
    """The highest charge seen for each model of a service."""
    asked = select(prices.c.model, prices.c.highest_usd).where(
        prices.c.service == service, prices.c.highest_usd.is_not(None)
    )
    return {row.model: row.highest_usd for row in connection.execute(asked)}


def keep(connection: Connection, service: str, listing: Listing, now: datetime) -> None:
    """Put a list in the place of the last one; one that has not changed is merely newer."""
    of_service = update(prices).where(prices.c.service == service)
    if listing.pricing is None:
        connection.execute(of_service.where(prices.c.pricing.is_not(None)).values(listed_at=now))
        return
    connection.execute(of_service.values(pricing=None, etag=None, listed_at=None))
    there = set(connection.execute(select(prices.c.model).where(prices.c.service == service)).scalars())
    alike = {"service": service, "etag": listing.etag, "listed_at": now}
    rows = [{"model": model, "pricing": entry, **alike} for model, entry in listing.pricing.items()]
    if new := [row for row in rows if row["model"] not in there]:
        connection.execute(insert(prices), new)
    for row in rows:
        if row["model"] in there:
            connection.execute(of_service.where(prices.c.model == row["model"]).values(row))
