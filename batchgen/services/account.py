"""What the AI/ML API tells of money: charges, prices, transactions. Source: its published reference, as of August 2026.

Amounts are exact: digits are kept as they were written.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from batchgen import catalogue
from batchgen.services import http
from batchgen.services.base import Listing

CREDITS_PER_USD = 2_000_000
VIDEO = "internal/video-generations/submit"
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
    """Every video model of the list that has a price: under the names by which it is documented, else under its id.

    A name that is one model's id and another's alias is the id.
    """
    try:
        # Digits are kept as they are written: a price is exact.
        rows = json.loads(response.content, parse_float=str)["data"]
        models = [row for row in rows if isinstance(row["id"], str) and isinstance(row.get("pricing"), dict)]
        videos = [row for row in models if row.get("type", VIDEO) == VIDEO]
        by_alias: dict[str, str] = {}
        by_id: dict[str, str] = {}
        for row in videos:
            told = json.dumps(row["pricing"], sort_keys=True)
            aliases = [name for name in row.get("aliases") or () if catalogue.known(name)]
            by_alias |= dict.fromkeys(aliases, told)
            if not aliases or catalogue.known(row["id"]):
                by_id[row["id"]] = told
    except (KeyError, TypeError, ValueError):
        return None
    return Listing(response.headers.get("etag"), by_alias | by_id)
