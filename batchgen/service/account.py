"""What the AI/ML API tells of money: charges, prices, transactions. Source: its published reference, as of August 2026.

Amounts are exact: digits are kept as they were written.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from batchgen.service import http
from batchgen.service.base import Listing

CREDITS_PER_USD = 2_000_000
USD_MAX = 1_000_000_000  # more is no price


def body_of(response: http.Response) -> dict[str, Any]:
    """An answer's JSON object; empty where it is none."""
    try:
        document = json.loads(response.content)
    except (ValueError, RecursionError):  # includes UnicodeDecodeError
        return {}
    return document if isinstance(document, dict) else {}


def money(value: Any, per: int = 1) -> Decimal | None:
    """An amount from the wire, exactly as it was written; None where there is none."""
    if value is None or isinstance(value, bool):
        return None
    try:
        amount = Decimal(str(value)) / per
    except ArithmeticError:
        return None
    return amount if amount.is_finite() and 0 <= amount < USD_MAX else None


def charge_in(response: http.Response) -> Decimal | None:
    """What the headers of a create answer say is charged, in USD. Nothing at all says that it is not charged yet."""
    spent = money(response.headers.get("x-aimlapi-usd-spent"))
    return spent or money(response.headers.get("x-aimlapi-credits-used"), CREDITS_PER_USD) or None


def read_charge(raw: Any) -> tuple[str, Decimal] | None:
    """The generation that a row of the transactions charges for, and the amount in USD."""
    try:
        identity, amount = raw["reference_id"], raw["amount"]
        exact = money(amount.get("credits"), CREDITS_PER_USD)
    except (AttributeError, KeyError, TypeError):
        return None
    charged = money(amount.get("usd")) if exact is None else exact
    return (str(identity), charged) if identity and charged is not None else None


def read_catalogue(response: http.Response) -> Listing | None:
    """Every model of the list that has a price, under its id and its aliases; an id goes before an alias."""
    try:
        # Digits are kept as they are written: a price is exact.
        rows = json.loads(response.content, parse_float=str)["data"]
        models = [row for row in rows if isinstance(row["id"], str) and isinstance(row.get("pricing"), dict)]
    except (KeyError, TypeError, ValueError):
        return None
    pricing: dict[str, str] = {}
    for name_of in (lambda row: row.get("aliases") or (), lambda row: (row["id"],)):
        for row in models:
            pricing |= {str(name): json.dumps(row["pricing"], sort_keys=True) for name in name_of(row)}
    return Listing(response.headers.get("etag"), pricing)
