"""Amounts of money, exact."""

from decimal import Decimal


def amount_text(amount: Decimal) -> str:
    """An amount as text without exponent and without trailing zeros: 0.35, 12."""
    return format(amount.normalize(), "f")
