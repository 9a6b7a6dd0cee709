"""Amounts of money, exact, as text and in JSON."""

from datetime import datetime
from decimal import Decimal

MONEY_STEP = Decimal("0.0000001")
"""The smallest part of an estimate or a cost, in USD. The service counts in credits of 0.0000005 USD, so seven places
hold each exactly."""


def amount_text(amount: Decimal) -> str:
    """An amount as text without exponent and without trailing zeros: 0.35, 12."""
    return format(amount.normalize(), "f")


def json_default(value: datetime | Decimal) -> str:
    """The text in JSON of a value that JSON has no type for: times in ISO 8601, money as text, because it is exact."""
    return value.isoformat() if isinstance(value, datetime) else amount_text(value)
