"""Column types of the job table: times, money, words and foreign text, which mean the same in SQLite and PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, DateTime, Dialect, Numeric, Text, TypeDecorator
from sqlalchemy.exc import SQLAlchemyError

from batchgen.catalogue.amounts import MONEY_STEP, amount_text
from batchgen.catalogue.wording import listed


def edited_by_hand(value: Any, kind: str) -> SQLAlchemyError:
    """The error of a value that SQLite has taken from a person: it stores any text in any column."""
    return SQLAlchemyError(
        f"{value!r:.60} stands in it in place of {kind}: it was edited by hand. Mend that, or put a copy of it back"
    )


def stored_amount(value: Any) -> Decimal:
    """An amount as it was stored. Raises `SQLAlchemyError` for what is none."""
    try:
        if (amount := Decimal(value)).is_finite():
            return amount
    except (ValueError, TypeError, ArithmeticError):
        pass
    raise edited_by_hand(value, "an amount")


class UTCDateTime(TypeDecorator[datetime]):
    """An aware datetime. In SQLite: 2026-01-31T23:59:59.123456Z, fixed width, so that text order is time order."""

    impl = Text().with_variant(DateTime(timezone=True), "postgresql")
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone cannot be stored")
        value = value.astimezone(UTC)
        return value.isoformat(timespec="microseconds")[:-6] + "Z" if dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if dialect.name != "sqlite":
            in_utc: datetime = value.astimezone(UTC)
            return in_utc
        try:
            if (time := datetime.fromisoformat(value)).tzinfo:
                return time
        except (ValueError, TypeError):
            pass
        raise edited_by_hand(value, "a time in UTC, such as 2026-01-31T23:59:59.123456Z")


class Money(TypeDecorator[Decimal]):
    """An exact amount in USD. SQL's own sum() over it works in both databases (SQLite reads the text as a number)."""

    impl = Text().with_variant(Numeric(16, 7), "postgresql")
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        exact = value.quantize(MONEY_STEP)
        return amount_text(exact) if dialect.name == "sqlite" else exact

    def process_result_value(self, value: Any, _dialect: Dialect) -> Decimal | None:
        return None if value is None else Decimal(amount_text(stored_amount(value)))


class NanoUSD(TypeDecorator[Decimal]):
    """An exact amount in USD, stored as a whole number of billionths, so that SQL adds to it exactly."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, _dialect: Dialect) -> Any:
        return None if value is None else int(value.scaleb(9).to_integral_value())

    def process_result_value(self, value: Any, _dialect: Dialect) -> Decimal | None:
        return None if value is None else stored_amount(value).scaleb(-9)


class ForeignText(TypeDecorator[str]):
    """Text from outside. What no database stores, half a surrogate pair and a zero byte, becomes a "?"."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, _dialect: Dialect) -> str | None:
        return None if value is None else value.encode("utf-8", "replace").decode().replace("\0", "?")


class Word(TypeDecorator[StrEnum]):
    """One of a closed set of words, as a member of its enum. A CHECK in the migrations allows no other."""

    impl = Text
    cache_ok = True

    def __init__(self, words: type[StrEnum]) -> None:
        super().__init__()
        self.words = words

    def process_result_value(self, value: str | None, _dialect: Dialect) -> StrEnum | None:
        try:
            return None if value is None else self.words(value)
        except ValueError:
            raise edited_by_hand(value, listed(list(self.words), "or")) from None
