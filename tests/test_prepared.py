"""What is prepared says and hears what SQLAlchemy would, in the transaction that SQLAlchemy has begun."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, bindparam, insert, select, update

from batchgen.errors import StorageError
from batchgen.jobtable.database import Database
from batchgen.jobtable.prepared import Prepared
from batchgen.jobtable.schema import limits, prices, timings

HERE = datetime(2026, 3, 1, 14, 30, 0, 250_000, timezone(timedelta(hours=2)))

MAKE = Prepared(
    insert(prices).values(
        service="s",  # a value of the statement's own
        model=bindparam("named"),
        highest_usd=bindparam("cost"),
        listed_at=bindparam("then"),
        pricing=bindparam("list"),
    )
)
ALL = select(prices.c.model, prices.c.highest_usd, prices.c.listed_at, prices.c.pricing).order_by(prices.c.model)
ROWS: list[dict[str, Any]] = [
    {"named": "a", "cost": Decimal("0.28000050"), "then": HERE, "list": "ü %s ?"},
    {"named": "b", "cost": None, "then": None, "list": None},
    {"named": "c", "cost": Decimal(10), "then": HERE.astimezone(UTC), "list": ""},
]


@pytest.fixture
def database(tmp_path: Path) -> Any:
    with Database(tmp_path / "a.db") as database:
        yield database


def make(connection: Connection) -> None:
    MAKE.run(connection, ROWS[0])
    MAKE.run_many(connection, ROWS[1:])


def test_values_and_rows_are_those_of_sqlalchemy(database: Database) -> None:
    database.write_now(make)
    plain = [tuple(row) for row in database.read_now(lambda connection: list(connection.execute(ALL)))]
    assert [row[0] for row in plain] == ["a", "b", "c"]
    assert plain[0][1:3] == (Decimal("0.2800005"), HERE)
    assert database.read_now(Prepared(ALL).rows, {}) == plain
    assert database.read_now(Prepared(ALL.limit(bindparam("most"))).rows, {"most": 2}) == plain[:2]
    of_one = Prepared(ALL.where(prices.c.model == bindparam("named")))
    assert database.read_now(of_one.row, {"named": "b"}) == plain[1]
    assert database.read_now(of_one.row, {"named": "nobody"}) is None


def test_how_many_rows_were_changed_is_known(database: Database) -> None:
    database.write_now(make)
    dearer = Prepared(
        update(prices)
        .where(prices.c.highest_usd > bindparam("more", type_=prices.c.highest_usd.type))
        .values(highest_usd=bindparam("cost"))
    )
    assert database.write_now(dearer.run, {"more": Decimal(99), "cost": Decimal(1)}) == 0
    assert database.write_now(dearer.run, {"more": Decimal(0), "cost": Decimal(1)}) == 2


def test_what_a_transaction_undoes_is_undone(database: Database) -> None:
    def fail(connection: Connection) -> None:
        make(connection)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        database.write_now(fail)
    assert database.read_now(Prepared(ALL).rows, {}) == []


def test_what_the_driver_says_is_told_to_a_person(database: Database) -> None:
    again = Prepared(insert(limits).values(name="one", failures=bindparam("number")))
    database.write_now(again.run, {"number": 0})
    with pytest.raises(StorageError, match=r"a\.db: the job table cannot be used: UNIQUE .*limits\.name"):
        database.write_now(again.run, {"number": 1})


def test_a_statement_that_names_a_list_is_refused(database: Database) -> None:
    some = Prepared(select(timings.c.mean).where(timings.c.model.in_(bindparam("several", expanding=True))))
    with pytest.raises(AssertionError, match="POSTCOMPILE"):
        database.read_now(some.rows, {"several": ["a"]})
