"""Amounts of money in answers of the AI/ML API: charges, prices, transactions. Source: its reference, August 2026.

Amounts are exact: they are read digit by digit as written, never as floats.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from batchgen import catalogue
from batchgen.services.base import Listing
from batchgen.services.http import Answer

CREDITS_PER_USD = 2_000_000
VIDEO_TYPE = "internal/video-generations/submit"
USD_MAX = 1_000_000_000  # no account and no price comes near it; what does is a mistake


def json_object(answer: Answer, read_float: Callable[[str], Any] = float) -> dict[str, Any]:
    """The JSON object that an answer consists of; empty for anything else."""
    try:
        document = json.loads(answer.body, parse_float=read_float)
    except (ValueError, RecursionError):  # includes UnicodeDecodeError
        return {}
    return document if isinstance(document, dict) else {}


def nested(document: Any, *keys: str) -> Any:
    """The value under a path of keys in JSON objects; None where the path breaks off."""
    for key in keys:
        document = document.get(key) if isinstance(document, dict) else None
    return document


def read_amount(value: Any, per_usd: int = 1) -> Decimal | None:
    """An amount in USD, from a number or a text in units of which `per_usd` make a dollar; None if it is no amount."""
    if value is None or isinstance(value, bool):
        return None
    try:
        amount = Decimal(str(value)) / per_usd
    except ArithmeticError:
        return None
    return amount if amount.is_finite() and 0 <= amount < USD_MAX else None


def charge_in_headers(answer: Answer) -> Decimal | None:
    """The charge in USD that the headers of a create answer tell. Zero means that it is not charged yet: None."""
    usd = read_amount(answer.headers.get("x-aimlapi-usd-spent"))
    return usd or read_amount(answer.headers.get("x-aimlapi-credits-used"), CREDITS_PER_USD) or None


def read_transaction(row: Any) -> tuple[str, Decimal] | None:
    """The generation that a row of the transactions charges for, and the amount in USD."""
    generation_id = nested(row, "reference_id")
    exact = read_amount(nested(row, "amount", "credits"), CREDITS_PER_USD)
    charge = read_amount(nested(row, "amount", "usd")) if exact is None else exact
    return (str(generation_id), charge) if generation_id and charge is not None else None


def read_price_list(answer: Answer) -> Listing | None:
    """The prices of all video models, by the names under which they are documented, else by their ids.

    A name that is one model's id and another's alias stands for the id.
    """
    try:
        # Floats stay texts, so that a price keeps its digits.
        rows = json_object(answer, read_float=str)["data"]
        models = [row for row in rows if isinstance(row["id"], str) and isinstance(row.get("pricing"), dict)]
        by_alias: dict[str, str] = {}
        by_id: dict[str, str] = {}
        for row in models:
            if row.get("type", VIDEO_TYPE) != VIDEO_TYPE:
                continue
            pricing = json.dumps(row["pricing"], sort_keys=True)
            aliases = [name for name in row.get("aliases") or () if catalogue.known(name)]
            by_alias |= dict.fromkeys(aliases, pricing)
            if not aliases or catalogue.known(row["id"]):
                by_id[row["id"]] = pricing
    except (KeyError, TypeError):
        return None
    return Listing(answer.headers.get("etag"), by_alias | by_id)
